//! Tables and the statements on them.

use std::fmt;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::cluster::metadata::{ColumnType, NativeType};
use scylla::statement::prepared::PreparedStatement;
use tokio::sync::OnceCell;

use super::config::CassandraConfig;
use super::error;
use crate::error::{Error, ErrorKind, Result};
use crate::store::time::in_time;

/// What a row is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// The key.
    ByKey,
    /// Tenant and key.
    ByTenantAndKey,
}

/// A table; its statements are prepared when they are first needed.
pub(super) struct Table {
    keyspace: String,
    name: String,
    layout: Layout,
    statements: OnceCell<Statements>,
}

pub(super) struct Statements {
    /// Tenant if there are any, key → value, write time.
    pub(super) read: PreparedStatement,
    /// Tenant if there are any, key, value, write time.
    pub(super) put: PreparedStatement,
    /// Write time, tenant if there are any, key.
    pub(super) delete: PreparedStatement,
}

impl Table {
    /// The names have to be valid: see [`check_name`](super::config::check_name).
    pub(super) fn new(keyspace: &str, name: &str, layout: Layout) -> Self {
        let (keyspace, name) = (keyspace.to_owned(), name.to_owned());
        Self { keyspace, name, layout, statements: OnceCell::new() }
    }

    /// The statements, prepared at the first call, when the table is made, too, if it is to be.
    ///
    /// # Errors
    /// There is no such table, or it is not as it has to be; or the server does not answer.
    pub(super) async fn statements(
        &self,
        session: &Session,
        config: &CassandraConfig,
    ) -> Result<&Statements> {
        self.statements
            .get_or_try_init(async || match self.prepare(session, config).await {
                Err(error)
                    if error.kind() == ErrorKind::NotFound && config.create_table_if_missing =>
                {
                    self.create(session, config.request_timeout).await?;
                    self.prepare(session, config).await
                }
                prepared => prepared,
            })
            .await
            .map_err(|error| error.with("keyspace", &self.keyspace).with("table", &self.name))
    }

    async fn prepare(&self, session: &Session, config: &CassandraConfig) -> Result<Statements> {
        let prepare = async |text: &str| {
            let prepared = in_time(config.request_timeout, session.prepare(text)).await?;
            let mut statement = prepared.map_err(error::of_preparing)?;
            statement.set_consistency(config.consistency.into());
            statement.set_request_timeout(Some(config.request_timeout));
            // Each write has its timestamp in it: sent twice, it is the same write.
            statement.set_is_idempotent(true);
            Ok::<_, Error>(statement)
        };
        let [read, put, delete] = self.texts(config.ttl);
        let statements = Statements {
            read: prepare(&read).await?,
            put: prepare(&put).await?,
            delete: prepare(&delete).await?,
        };
        self.check_columns(&statements.put)?;
        Ok(statements)
    }

    fn texts(&self, ttl: Option<Duration>) -> [String; 3] {
        let (columns, markers, condition) = match self.layout {
            Layout::ByKey => ("key", "?", "key = ?"),
            Layout::ByTenantAndKey => ("tenant, key", "?, ?", "tenant = ? AND key = ?"),
        };
        let ttl = ttl.map_or(String::new(), |ttl| format!(" AND TTL {}", ttl.as_secs()));
        [
            format!("SELECT value, WRITETIME(value) FROM {self} WHERE {condition}"),
            format!(
                "INSERT INTO {self} ({columns}, value) VALUES ({markers}, ?) USING TIMESTAMP ?{ttl}"
            ),
            format!("DELETE FROM {self} USING TIMESTAMP ? WHERE {condition}"),
        ]
    }

    /// The statements would be taken for keys of other types, too, and fail later, one by one.
    fn check_columns(&self, put: &PreparedStatement) -> Result<()> {
        for column in put.get_variable_col_specs().iter() {
            let is_right = match (column.name(), column.typ()) {
                ("key" | "tenant", typ) => *typ == ColumnType::Native(NativeType::Text),
                ("value", typ) => *typ == ColumnType::Native(NativeType::Blob),
                _ => true,
            };
            if !is_right {
                let message = format!(
                    "the column `{}` has another type than the store's table: {}",
                    column.name(),
                    self.definition()
                );
                return Err(Error::new(ErrorKind::Config, message));
            }
        }
        Ok(())
    }

    async fn create(&self, session: &Session, time: Duration) -> Result<()> {
        let created = in_time(time, session.query_unpaged(self.definition(), ())).await?;
        created.map(drop).map_err(error::of_execution)
    }

    fn definition(&self) -> String {
        let columns = match self.layout {
            Layout::ByKey => "key text, value blob, PRIMARY KEY (key)",
            Layout::ByTenantAndKey => {
                "tenant text, key text, value blob, PRIMARY KEY ((tenant, key))"
            }
        };
        format!("CREATE TABLE IF NOT EXISTS {self} ({columns})")
    }
}

/// As it stands in statements. Quoted, so that letter case counts and no word is reserved.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\".\"{}\"", self.keyspace, self.name)
    }
}
