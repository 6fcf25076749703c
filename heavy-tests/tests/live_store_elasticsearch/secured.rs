//! OpenSearch that speaks TLS only and wants a password. (Version 2 has no API keys: what is sent for one is
//! looked at in `faults`.)

use std::time::Duration;

use kasper::store::{ElasticsearchConfig, ElasticsearchIndex, ElasticsearchStore, Store, connect};
use kasper::testkit::conformance::{Profile, check_store};
use kasper::{Error, ErrorKind};

use crate::server::{new_index, new_name, variable};

/// `host:port`
fn address() -> String {
    variable("KASPER_TEST_OPENSEARCH_SECURED")
}

/// With `https` and the server's certificate, without anybody's password.
fn config(index: impl Into<ElasticsearchIndex>) -> ElasticsearchConfig {
    let authority = std::fs::read(variable("KASPER_TEST_OPENSEARCH_CA")).unwrap();
    ElasticsearchConfig::new(format!("https://{}", address()), index).tls_authority(authority)
}

async fn refused(config: ElasticsearchConfig) -> Error {
    let error = ElasticsearchStore::connect(&config).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unauthorized, false), "{error:?}");
    assert_eq!(error.get("server"), Some(&*format!("https://{}", address())), "{error:?}");
    assert_eq!(error.get("operation"), Some("connect"), "{error:?}");
    assert!(!format!("{error:?}").contains("close-sesame"), "{error:?}");
    error
}

#[tokio::test]
#[ignore = "needs OpenSearch with its security plugin; run with cargo xtask test --only stores"]
async fn a_store_keeps_the_rules_over_tls() {
    let config = config(new_index("tls")).user("admin").password("admin");
    let config = config.timeout(Duration::from_secs(60));
    let store = ElasticsearchStore::connect(&config).await.unwrap();
    store.create_index_if_missing().await.unwrap();
    let profile = Profile::default().max_key_bytes(512).json_values().many_keys(2000);
    check_store(&store, &profile).await;
}

#[tokio::test]
#[ignore = "needs OpenSearch with its security plugin; run with cargo xtask test --only stores"]
async fn who_has_no_password_or_a_wrong_one_is_unauthorized() {
    let config = || config(new_index("refused"));
    let wrong = config().user("admin").password("close-sesame");
    let unknown = config().user("nobody").password("close-sesame");
    for config in [config(), wrong, unknown, config().api_key("Y2xvc2Utc2VzYW1l")] {
        let error = refused(config).await;
        assert_eq!(error.get("status"), Some("401"), "{error:?}");
        assert!(!format!("{error:?}").contains("Y2xvc2U"), "{error:?}");
    }
}

#[tokio::test]
#[ignore = "needs OpenSearch with its security plugin; run with cargo xtask test --only stores"]
async fn who_may_only_read_is_told_which_key_was_not_written() {
    let index = new_index("read-only");
    let admin = config(index.clone()).user("admin").password("admin");
    let admin = ElasticsearchStore::connect(&admin).await.unwrap();
    admin.put("a", "{\"x\":1}").await.unwrap();
    let reader = config(index).user("readall").password("readall");
    let reader = ElasticsearchStore::connect(&reader).await.unwrap();
    assert_eq!(reader.get("a").await.unwrap(), Some("{\"x\":1}".into()));
    let error = reader.put("a", "{}").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unauthorized, false), "{error:?}");
    assert_eq!(error.get("key"), Some("a"), "{error:?}");
    assert_eq!(admin.get("a").await.unwrap(), Some("{\"x\":1}".into()));
}

#[tokio::test]
#[ignore = "needs OpenSearch with its security plugin; run with cargo xtask test --only stores"]
async fn a_certificate_of_nobody_that_is_trusted_is_refused_at_connect() {
    let other = include_str!("../../../tests/data/other_authority.pem");
    let of_the_system = ElasticsearchConfig::new(format!("https://{}", address()), "refused");
    for config in [config("refused").tls_authority(other), of_the_system] {
        let error = refused(config.user("admin").password("close-sesame")).await;
        assert!(error.to_string().contains("certificate is not trusted"), "{error}");
    }
    let url = format!("elasticsearch+https://admin:close-sesame@{}/{}", address(), new_name("url"));
    let error = connect(&url).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unauthorized, false), "{error:?}");
    assert!(!format!("{error:?}").contains("close-sesame"), "{error:?}");
}

#[tokio::test]
#[ignore = "needs OpenSearch with its security plugin; run with cargo xtask test --only stores"]
async fn without_tls_nothing_hangs() {
    let config = ElasticsearchConfig::new(format!("http://{}", address()), new_index("plain"))
        .user("admin")
        .password("close-sesame")
        .request_timeout(Duration::from_secs(3));
    let error = ElasticsearchStore::connect(&config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(!format!("{error:?}").contains("close-sesame"), "{error:?}");
}
