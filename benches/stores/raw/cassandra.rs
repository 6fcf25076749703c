//! A prepared statement for each key, many at a time.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use kasper::Bytes;
use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;

use super::Values;
use crate::common::BoxError;
use crate::place::{KEYSPACE, Place};

/// Found by trying: more gives nothing.
const CONCURRENCY: usize = 256;

pub(crate) struct Cassandra {
    session: Session,
    get: PreparedStatement,
    put: PreparedStatement,
}

impl Cassandra {
    pub(crate) async fn connect(place: &Place) -> Result<Self, BoxError> {
        let session = place.session().await?;
        let table = format!("{KEYSPACE}.\"{}\"", place.name);
        let prepare = async |text: String| {
            let mut statement = session.prepare(text).await?;
            statement.set_is_idempotent(true);
            Ok::<_, BoxError>(statement)
        };
        let get = prepare(format!("SELECT value FROM {table} WHERE key = ?")).await?;
        let put = prepare(format!("INSERT INTO {table} (key, value) VALUES (?, ?)")).await?;
        Ok(Self { session, get, put })
    }

    pub(crate) async fn get_many(&self, keys: &[&str]) -> Result<Values, BoxError> {
        let reads = stream::iter(keys).map(async |key| {
            let result = self.session.execute_unpaged(&self.get, (key,)).await?;
            let rows = result.into_rows_result()?;
            Ok(rows.maybe_first_row::<(Bytes,)>()?.map(|(value,)| value))
        });
        reads.buffered(CONCURRENCY).try_collect().await
    }

    pub(crate) async fn write_many(&self, changes: &[(&str, Bytes)]) -> Result<(), BoxError> {
        let writes = stream::iter(changes).map(async |(key, value)| {
            self.session.execute_unpaged(&self.put, (key, value)).await?;
            Ok::<_, BoxError>(())
        });
        writes.buffer_unordered(CONCURRENCY).try_collect().await
    }
}
