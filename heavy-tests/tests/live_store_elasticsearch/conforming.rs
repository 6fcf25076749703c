//! The conformance suite.

use kasper::multitenant::{MultiElasticsearchStore, MultiStore};
use kasper::store::ElasticsearchEncoding;
use kasper::testkit::conformance::{Profile, check_multi_store, check_store};

use crate::server::{Server, new_name};

fn profile() -> Profile {
    Profile::default().max_key_bytes(512).max_value_bytes(32 << 20)
}

pub(crate) async fn a_store_of_json_keeps_the_rules(server: &Server) {
    check_store(&server.store(server.config()).await, &profile().json_values()).await;
}

pub(crate) async fn a_store_of_bytes_keeps_the_rules(server: &Server) {
    check_store(&server.bytes_store().await, &profile().many_keys(5000)).await;
}

pub(crate) async fn a_store_of_many_tenants_keeps_the_rules(server: &Server) {
    for encoding in [ElasticsearchEncoding::Json, ElasticsearchEncoding::Binary] {
        let prefix = new_name("multi");
        let tenancy = move |tenant: &str| format!("{prefix}~{tenant}");
        let config = server.config().encoding(encoding);
        let store = MultiElasticsearchStore::connect_with(&config, tenancy).await.unwrap();
        for tenant in ["acme", "other"] {
            store.tenant(tenant).unwrap().create_index_if_missing().await.unwrap();
        }
        let profile = profile().many_keys(2000);
        let profile =
            if encoding == ElasticsearchEncoding::Json { profile.json_values() } else { profile };
        check_multi_store(&store, ["acme", "other"], &profile).await;
        store.flush().await.unwrap();
    }
}
