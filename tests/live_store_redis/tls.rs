//! TLS.

use std::time::Duration;

use kasper::ErrorKind;
use kasper::store::{RedisConfig, RedisOptions, RedisStore, Store};
use kasper::testkit::conformance::{Profile, check_store};

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
    let options = RedisOptions::new("p").timeout(Duration::from_secs(2));
    let error = RedisStore::connect(&RedisConfig::new(address(), options)).await.unwrap_err();
    let is_away = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
    assert!(is_away || error.kind() == ErrorKind::Backend, "{error:?}");
}
