//! TLS.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kasper::store::{RedisConfig, RedisStore, Store};
use kasper::testkit::conformance::{Profile, check_store};
use kasper::{Error, ErrorKind};

use super::server::{OwnServer, own_cluster_with};
use super::{from_env, prefix};

fn address() -> String {
    from_env("KASPER_TEST_REDIS_TLS")
}

#[tokio::test]
#[ignore = "needs a Redis server with TLS; run with cargo xtask test"]
async fn a_store_keeps_the_rules_over_tls() {
    let authority = std::fs::read(from_env("KASPER_TEST_REDIS_CA")).unwrap();
    let config = RedisConfig::new(address(), prefix("tls")).tls_authority(authority);
    let store = RedisStore::connect(&config).await.unwrap();
    check_store(&store, &Profile::default().many_keys(2000)).await;
    store.put("a", "1").await.unwrap();
}

#[tokio::test]
#[ignore = "needs a Redis server with TLS; run with cargo xtask test"]
async fn a_certificate_of_nobody_that_is_trusted_is_refused() {
    let config = RedisConfig::from_url(&format!("rediss://{}/p", address())).unwrap();
    let error = RedisStore::connect(&config).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unauthorized, false), "{error:?}");
}

#[tokio::test]
#[ignore = "needs a Redis server with TLS; run with cargo xtask test"]
async fn without_tls_nothing_hangs() {
    let config = RedisConfig::new(address(), "p").request_timeout(Duration::from_secs(2));
    let error = RedisStore::connect(&config).await.unwrap_err();
    let is_away = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
    assert!(is_away || error.kind() == ErrorKind::Backend, "{error:?}");
}

/// A key and a certificate that is its own authority, for 127.0.0.1: for servers and for clients.
struct Identity {
    directory: PathBuf,
}

impl Drop for Identity {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Identity {
    fn make() -> Self {
        let directory = std::env::temp_dir().join(prefix("kasper-identity"));
        std::fs::create_dir_all(&directory).unwrap();
        let made = Self { directory };
        let mut make = Command::new("openssl");
        make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-days", "3650", "-subj", "/CN=kasper-test"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(made.key())
            .arg("-out")
            .arg(made.certificate())
            .stderr(Stdio::null());
        assert!(make.status().expect("openssl is missing").success());
        made
    }

    fn key(&self) -> PathBuf {
        self.directory.join("key.pem")
    }

    fn certificate(&self) -> PathBuf {
        self.directory.join("certificate.pem")
    }

    /// What makes a server speak TLS only, and with clients of this identity only.
    fn for_servers(&self) -> Vec<String> {
        let names = ["--tls-cert-file", "--tls-key-file", "--tls-ca-cert-file"];
        let files = [self.certificate(), self.key(), self.certificate()];
        let mut options = ["--port", "0", "--tls-port", "OWN-PORT", "--tls-auth-clients", "yes"]
            .map(str::to_owned)
            .to_vec();
        for (name, file) in names.into_iter().zip(&files) {
            options.extend([name.to_owned(), text(file)]);
        }
        options
    }

    fn trusted_by(&self, config: RedisConfig) -> RedisConfig {
        config.tls_authority(std::fs::read(self.certificate()).unwrap())
    }

    fn shown_by(&self, config: RedisConfig) -> RedisConfig {
        let [certificate, key] = [self.certificate(), self.key()].map(std::fs::read);
        config.tls_client(certificate.unwrap(), key.unwrap())
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

async fn refused(config: &RedisConfig) -> Error {
    let error = RedisStore::connect(config).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unauthorized, false), "{error:?}");
    assert!(!format!("{error:?}").contains("close-sesame"), "{error:?}");
    error
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn a_server_that_wants_a_certificate_lets_in_who_shows_it() {
    let (own, other) = (Identity::make(), Identity::make());
    let options = own.for_servers();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let server =
        OwnServer::start(&[&options[..], &["--requirepass", "open-sesame"]].concat()).await;
    let config = own.trusted_by(server.config()).password("open-sesame");
    let store = RedisStore::connect(&own.shown_by(config.clone())).await.unwrap();
    store.put("a", "1").await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), Some("1".into()));
    refused(&config).await;
    refused(&other.shown_by(config.clone())).await;
    refused(&own.shown_by(config.password("close-sesame"))).await;
    let stranger = other.trusted_by(server.config()).password("close-sesame");
    refused(&own.shown_by(stranger)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn a_cluster_speaks_tls() {
    let (own, other) = (Identity::make(), Identity::make());
    let mut options = own.for_servers();
    options.extend(["--tls-cluster".to_owned(), "yes".to_owned()]);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let files = [own.certificate(), own.certificate(), own.key()].map(|file| text(&file));
    let [authority, certificate, key] = &files;
    let for_client = ["--tls", "--cacert", authority, "--cert", certificate, "--key", key];
    let servers = own_cluster_with(&options, &for_client).await;
    let config = || RedisConfig::cluster(servers[0].address(), "p");
    let store = own.shown_by(own.trusted_by(config()));
    let store = RedisStore::connect(&store).await.unwrap();
    check_store(&store, &Profile::default().many_keys(2000)).await;

    refused(&own.trusted_by(config())).await;
    refused(&other.shown_by(own.trusted_by(config()))).await;
    refused(&own.shown_by(other.trusted_by(config()))).await;
}
