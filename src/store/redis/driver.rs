//! From a [`RedisConfig`] to the driver's client.

use std::time::Duration;

use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use super::RedisConfig;
#[cfg(feature = "redis-tls")]
use super::config::Tls;

impl RedisConfig {
    pub(super) fn connection_info(&self, host: &str, port: u16) -> ConnectionAddr {
        let host = host.to_owned();
        match self.tls {
            None => ConnectionAddr::Tcp(host, port),
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        }
    }

    fn complete(&self, address: ConnectionAddr) -> Result<ConnectionInfo, redis::RedisError> {
        let mut settings = RedisConnectionInfo::default().set_db(i64::from(self.database));
        if let Some(user) = &self.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        let info = address.into_connection_info()?.set_redis_settings(settings);
        Ok(info.set_tcp_settings(tcp_settings()))
    }

    pub(super) fn standalone_client(
        &self,
        servers: Vec<ConnectionAddr>,
    ) -> Result<Client, redis::RedisError> {
        let Some(address) = servers.into_iter().next() else {
            return Err((redis::ErrorKind::InvalidClientConfig, "no server").into());
        };
        let info = self.complete(address)?;
        #[cfg(feature = "redis-tls")]
        if let Some(tls) = &self.tls {
            return Client::build_with_tls(info, tls.certificates());
        }
        Client::open(info)
    }

    pub(super) fn cluster_client(
        &self,
        servers: Vec<ConnectionAddr>,
    ) -> Result<ClusterClient, redis::RedisError> {
        let servers: Result<Vec<_>, _> =
            servers.into_iter().map(|address| self.complete(address)).collect();
        let builder = ClusterClientBuilder::new(servers?)
            .connection_timeout(self.connect_timeout)
            .response_timeout(self.request_timeout)
            // `Server` has a deadline of its own, and knows which connection to give up.
            .overall_response_timeout(None)
            // A server that has moved, or is being replaced, is asked for again until that deadline.
            .retries(10)
            .min_retry_wait(50)
            .max_retry_wait(2000)
            .tcp_settings(tcp_settings());
        #[cfg(feature = "redis-tls")]
        if let Some(tls) = &self.tls {
            return builder.tls(redis::TlsMode::Secure).certs(tls.certificates()).build();
        }
        builder.build()
    }
}

/// Requests are written whole: nothing is won by waiting for more to send.
///
/// Lingering for no time: a connection that is given up is reset, and what the server has not taken is thrown away.
/// Otherwise the operating system goes on delivering it, for minutes, and a write that was reported as failed is made
/// over later ones of its keys when the network comes back.
fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true).set_linger_time(Duration::ZERO)
}

#[cfg(feature = "redis-tls")]
impl Tls {
    fn certificates(&self) -> redis::TlsCertificates {
        // The driver takes the process's default; there is none if nobody has chosen. That another is
        // chosen in between is as good.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let client = self.client.clone();
        let client = client
            .map(|(client_cert, client_key)| redis::ClientTlsConfig { client_cert, client_key });
        redis::TlsCertificates { client_tls: client, root_cert: self.authority.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::RedisClient;
    use super::*;

    #[test]
    fn connections_send_at_once() {
        let RedisClient::Standalone(client) = RedisConfig::new("h", "p").client().unwrap() else {
            panic!("a standalone client");
        };
        assert!(client.get_connection_info().tcp_settings().nodelay());
    }
}
