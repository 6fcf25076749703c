//! Redis by its raw driver: `MGET` and `MSET` on one connection, those of a large call as a pipeline.

use futures_util::future::try_join_all;
use kasper::Bytes;
use redis::aio::MultiplexedConnection;

use super::BoxError;
use super::counting::{Driver, Values};

/// Keys of one command. Found by trying: with larger ones the client waits for the server and the server for the
/// client.
const KEYS: usize = 1000;

pub(crate) struct Redis {
    connection: MultiplexedConnection,
}

impl Redis {
    pub(crate) async fn connect(address: &str) -> Result<Self, BoxError> {
        Ok(Self { connection: connect(address).await? })
    }
}

impl Driver for Redis {
    async fn get_many(&self, keys: &[&str]) -> Result<Values, BoxError> {
        let parts = keys.chunks(KEYS).map(async |keys| {
            let mut connection = self.connection.clone();
            redis::cmd("MGET").arg(keys).query_async::<Values>(&mut connection).await
        });
        let mut parts = try_join_all(parts).await?;
        Ok(if parts.len() == 1 { parts.remove(0) } else { parts.concat() })
    }

    async fn write_many(&self, changes: &[(&str, Bytes)]) -> Result<(), BoxError> {
        let parts = changes.chunks(KEYS).map(async |changes| {
            let mut connection = self.connection.clone();
            let mut command = redis::cmd("MSET");
            for (key, value) in changes {
                command.arg(*key).arg(&value[..]);
            }
            command.exec_async(&mut connection).await
        });
        try_join_all(parts).await?;
        Ok(())
    }
}

/// A connection without a delay for small requests, which the driver has by default.
pub(crate) async fn connect(address: &str) -> Result<MultiplexedConnection, BoxError> {
    let info = redis::IntoConnectionInfo::into_connection_info(format!("redis://{address}"))?;
    let settings = redis::io::tcp::TcpSettings::default().set_nodelay(true);
    let client = redis::Client::open(info.set_tcp_settings(settings))?;
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}
