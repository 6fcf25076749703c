//! Many tenants, an index for each.

use kasper::ErrorKind;
use kasper::multitenant::{MultiElasticsearchStore, MultiStore, TenantKey, TenantMap};
use kasper::store::{ElasticsearchClient, Store};
use kasper::testkit::FaultProxy;

use crate::server::{Server, config, new_name};

/// Go's `Fetch` files them under the index, where nobody looks.
pub(crate) async fn values_are_filed_under_the_tenant(server: &Server) {
    let prefix = new_name("tenants");
    let index = prefix.clone();
    let tenancy = move |tenant: &str| format!("{index}~{}", tenant.to_lowercase());
    let proxy = FaultProxy::start(server.address.clone()).await.unwrap();
    let config = config(&proxy.address().to_string(), "unused");
    let store = MultiElasticsearchStore::connect_with(&config, tenancy).await.unwrap();
    let changes: TenantMap =
        [("Acme", "k", Some("{\"n\":1}")), ("other", "k", Some("{\"n\":2}"))].into_iter().collect();
    store.push(&changes).await.unwrap();
    let keys =
        [TenantKey::new("Acme", "k"), TenantKey::new("other", "k"), TenantKey::new("new", "k")];
    assert_eq!(store.fetch(&keys).await.unwrap(), changes);
    assert_eq!(store.tenants(), ["Acme", "new", "other"]);
    let found = server.ask(reqwest::Method::GET, &format!("/{prefix}~acme/_doc/k"), "").await;
    assert_eq!(found["_source"]["n"], 1, "{found}");
    store.flush().await.unwrap();
    // Which key of whom is at fault.
    let mut bad = changes.clone();
    bad.put("other", "l", "{\"n\":1,\"n\":2}");
    let error = store.push(&bad).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.get("operation")),
        (ErrorKind::InvalidInput, Some("push")),
        "{error}"
    );
    assert_eq!((error.get("tenant"), error.get("key")), (Some("other"), Some("l")), "{error}");
    bad.put("other", "l", "no JSON");
    let error = store.push(&bad).await.unwrap_err();
    assert_eq!((error.get("tenant"), error.get("key")), (Some("other"), Some("l")), "{error}");
    // One client for several stores.
    let shared = store.tenant("Acme").unwrap().client().clone();
    let same =
        MultiElasticsearchStore::from_client_with(shared, move |_: &str| format!("{prefix}~acme"));
    assert_eq!(same.tenant("x").unwrap().get("k").await.unwrap(), Some("{\"n\":1}".into()));
}

pub(crate) async fn two_tenants_never_share_an_index(server: &Server) {
    let client = ElasticsearchClient::new(&server.config()).unwrap();
    let store = MultiElasticsearchStore::from_client_with(client, |_: &str| "one".to_owned());
    store.tenant("a").unwrap();
    store.tenant("a").unwrap();
    let error = store.tenant("b").unwrap_err();
    assert_eq!(
        (error.kind(), error.get("tenant")),
        (ErrorKind::InvalidInput, Some("b")),
        "{error}"
    );
    store.fetch(&[TenantKey::new("b", "k")]).await.unwrap_err();
    assert_eq!(store.tenants(), ["a"]);
}

pub(crate) async fn names_that_no_index_can_have_are_refused(server: &Server) {
    let client = ElasticsearchClient::new(&server.config()).unwrap();
    let store = MultiElasticsearchStore::from_client_with(client, |tenant: &str| tenant.to_owned());
    for tenant in ["Acme", "*", "_all", "a,b", "a b"] {
        let error = store.fetch(&[TenantKey::new(tenant, "k")]).await.unwrap_err();
        assert_eq!((error.kind(), error.get("tenant")), (ErrorKind::InvalidInput, Some(tenant)));
        assert_eq!(error.get("operation"), Some("fetch"), "{error}");
    }
    assert!(store.tenants().is_empty());
}
