//! The Elasticsearch store on real servers: the same tests on Elasticsearch (`KASPER_TEST_ELASTICSEARCH`) and
//! OpenSearch (`KASPER_TEST_OPENSEARCH`), each in a module of that name; and OpenSearch with TLS and passwords
//! (`KASPER_TEST_OPENSEARCH_SECURED`).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../../../tests/attempts/mod.rs"]
mod attempts;
mod conforming;
mod documents;
mod faults;
#[cfg(feature = "elasticsearch-tls")]
mod secured;
mod server;
mod tenants;

/// Each test once for each server.
macro_rules! on_each_server {
    ($($module:ident :: $test:ident),* $(,)?) => {
        mod elasticsearch {
            $(
                #[tokio::test]
                #[ignore = "needs Elasticsearch; run with cargo xtask test --only stores"]
                async fn $test() {
                    crate::$module::$test(&crate::server::Server::elasticsearch()).await;
                }
            )*
        }
        mod opensearch {
            $(
                #[tokio::test]
                #[ignore = "needs OpenSearch; run with cargo xtask test --only stores"]
                async fn $test() {
                    crate::$module::$test(&crate::server::Server::opensearch()).await;
                }
            )*
        }
    };
}

on_each_server! {
    conforming::a_store_of_json_keeps_the_rules,
    conforming::a_store_of_bytes_keeps_the_rules,
    conforming::a_store_of_many_tenants_keeps_the_rules,
    documents::documents_stand_where_go_kasper_looks_for_them,
    documents::odd_documents_come_back_byte_for_byte,
    documents::a_document_that_the_server_refuses_is_named,
    documents::a_missing_index_is_empty_and_comes_with_the_first_write,
    documents::an_index_without_automatic_creation_is_not_found,
    documents::flush_refreshes_this_index_only,
    documents::a_value_over_the_servers_limit_is_refused,
    documents::urls_connect,
    documents::a_value_that_is_kept_does_not_keep_the_answer_that_it_came_in,
    tenants::values_are_filed_under_the_tenant,
    tenants::two_tenants_never_share_an_index,
    tenants::names_that_no_index_can_have_are_refused,
    faults::a_read_only_index_is_told,
    faults::no_setting_is_too_large,
    faults::an_index_that_fits_no_store_is_told,
    faults::busy_keys_are_tried_again_alone,
    faults::a_wrong_password_is_told_and_not_shown,
    faults::a_cut_in_a_request_is_retryable,
    faults::a_write_that_was_given_up_is_not_made_later,
    faults::a_hung_server_ends_within_the_deadline,
    faults::a_slow_server_is_waited_for,
    faults::another_server_steps_in,
    faults::a_restart_in_mid_write_is_survived,
}

#[tokio::test]
#[ignore = "needs Elasticsearch and OpenSearch; run with cargo xtask test --only stores"]
async fn a_full_disk_is_told_until_there_is_room() {
    let (one, other) = (server::Server::elasticsearch(), server::Server::opensearch());
    faults::a_full_disk_is_told_until_there_is_room([&one, &other]).await;
}
