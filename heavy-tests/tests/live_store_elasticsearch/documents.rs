//! How values stand on the server, and what it does not take.

use kasper::store::{ElasticsearchRefresh, ElasticsearchStore, Store, connect, connect_multi};
use kasper::testkit::FaultProxy;
use kasper::{Bytes, ErrorKind};
use reqwest::Method;
use serde_json::json;

use crate::server::{Server, new_name};

/// `{index}/_doc/{key}`, the value being the `_source`.
pub(crate) async fn documents_stand_where_go_kasper_looks_for_them(server: &Server) {
    let index = new_name("layout");
    let store = ElasticsearchStore::connect(&server.config_of(index.as_str())).await.unwrap();
    store.write_many(&[("a/b", Some("{\"x\":1}".into())), ("c", Some("{}".into()))]).await.unwrap();
    let found = server.ask(Method::GET, &format!("/{index}/_doc/a%2Fb"), "").await;
    assert_eq!((&found["_id"], &found["_source"]), (&json!("a/b"), &json!({"x": 1})), "{found}");
    server.ask(Method::PUT, &format!("/{index}/_doc/d"), "{\"y\": 2}").await;
    assert_eq!(store.get("d").await.unwrap(), Some("{\"y\": 2}".into()));
    // A type that servers since version 7 know: what older ones are told. OpenSearch 2 refuses any.
    if !server.is_opensearch {
        let typed = server.config_of((index.as_str(), "_doc"));
        let typed = ElasticsearchStore::connect(&typed).await.unwrap();
        typed.put("e", "{\"z\":3}").await.unwrap();
        assert_eq!(typed.get("d").await.unwrap(), Some("{\"y\": 2}".into()));
        assert_eq!(store.get("e").await.unwrap(), Some("{\"z\":3}".into()));
    }
    let bytes = server.bytes_store().await;
    bytes.put("a", &b"\x00\xff"[..]).await.unwrap();
    bytes.flush().await.unwrap();
}

pub(crate) async fn odd_documents_come_back_byte_for_byte(server: &Server) {
    let store = server.store(server.config()).await;
    let odd = [
        " {\"a\" : 1}\t",
        "{\n\"a\":\r\n1}\n",
        "{}\r",
        "\n\n{}\r\n",
        "{\"a\":\"\\/\\u0041é\u{2028}\"}",
        "{\"a\":1.10,\"b\":1E400,\"c\":12345678901234567890123}",
        "{\"index\":{\"_index\":\"x\"}}",
        "{\"_source\":{\"found\":false}}",
        "{\"error\":1}",
    ];
    let keys: Vec<String> = (0..odd.len()).map(|index| format!("k/{index}\n")).collect();
    let changes: Vec<_> = keys
        .iter()
        .map(String::as_str)
        .zip(odd.iter().map(|text| Some(Bytes::from(*text))))
        .collect();
    store.write_many(&changes).await.unwrap();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for (found, value) in store.get_many(&keys).await.unwrap().into_iter().zip(odd) {
        assert_eq!(found, Some(value.into()));
    }
    for key in [".", ".."] {
        store.put(key, "{}").await.unwrap();
        assert_eq!(store.get(key).await.unwrap(), Some("{}".into()));
        let error = store.put(key, "{\n}").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.get("key")),
            (ErrorKind::InvalidInput, Some(key)),
            "{error}"
        );
    }
}

/// Elasticsearch quotes the request, credentials included, when it complains about a document.
pub(crate) async fn a_document_that_the_server_refuses_is_named(server: &Server) {
    let config = server.config().user("me").password("secret");
    let store = server.store(config).await;
    let values = ["{\"a\":1}", "{\"a\":1,\"a\":2}", "{\"a\":3}", "{\"b\":1,\"b\":2}"];
    let changes: Vec<_> =
        ["a", "b", "c", "d"].into_iter().zip(values.map(|v| Some(v.into()))).collect();
    let error = store.write_many(&changes).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::InvalidInput, false), "{error}");
    assert_eq!(
        (error.get("key"), error.get("operation")),
        (Some("b"), Some("write_many")),
        "{error}"
    );
    assert_eq!(error.get("server"), Some(&*format!("http://{}", server.address)), "{error}");
    assert_eq!(error.get("failed"), Some("2 of 4 keys of a request: b, d"), "{error}");
    let debug = format!("{error:?}");
    assert!(
        !debug.contains("bWU6") && !debug.contains("Basic") && !debug.contains("HTTP/1.1"),
        "{debug}"
    );
    // Alone, and by a request of its own.
    for value in ["{\"a\":1,\"a\":2}", "{\"a\":1,\n\"a\":2}"] {
        let error = store.put("b", value).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.get("key")),
            (ErrorKind::InvalidInput, Some("b")),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("bWU6"), "{error:?}");
    }
}

pub(crate) async fn a_missing_index_is_empty_and_comes_with_the_first_write(server: &Server) {
    let store = ElasticsearchStore::connect(&server.config()).await.unwrap();
    assert_eq!(store.get_many(&["a", "b"]).await.unwrap(), [None, None]);
    store.delete("a").await.unwrap();
    store.flush().await.unwrap();
    store.put("a", "{\"x\":1}").await.unwrap();
    assert_eq!(store.get_many(&["a", "b"]).await.unwrap(), [Some("{\"x\":1}".into()), None]);
    store.create_index_if_missing().await.unwrap();
}

pub(crate) async fn an_index_without_automatic_creation_is_not_found(server: &Server) {
    let index = format!("kasper-never-{}", new_name("x"));
    let setting =
        |value: &str| format!("{{\"transient\":{{\"action.auto_create_index\":{value}}}}}");
    server.ask(Method::PUT, "/_cluster/settings", &setting("\"-kasper-never-*,+*\"")).await;
    let store = ElasticsearchStore::connect(&server.config_of(index)).await.unwrap();
    let written = store.put("a", "{}").await;
    let found = store.get("a").await;
    let error = written.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::NotFound, false), "{error}");
    assert_eq!(error.get("key"), Some("a"), "{error}");
    assert_eq!(found.unwrap(), None);
    server.ask(Method::PUT, "/_cluster/settings", &setting("null")).await;
}

async fn hits(server: &Server, store: &str) -> i64 {
    let found = server.ask(Method::GET, &format!("/{store}/_count"), "").await;
    found["count"].as_i64().unwrap()
}

/// Go's refreshes `_all`.
pub(crate) async fn flush_refreshes_this_index_only(server: &Server) {
    let names = [new_name("flush-a"), new_name("flush-b"), new_name("flush-c")];
    for name in &names {
        let body = "{\"settings\":{\"index.refresh_interval\":\"-1\"}}";
        server.ask(Method::PUT, &format!("/{name}"), body).await;
    }
    let store = async |name: &str, refresh| {
        ElasticsearchStore::connect(&server.config_of(name).refresh(refresh)).await
    };
    let a = store(&names[0], ElasticsearchRefresh::Later).await.unwrap();
    let b = store(&names[1], ElasticsearchRefresh::Later).await.unwrap();
    a.put("k", "{}").await.unwrap();
    b.put("k", "{}").await.unwrap();
    a.flush().await.unwrap();
    assert_eq!((hits(server, &names[0]).await, hits(server, &names[1]).await), (1, 0));
    let c = store(&names[2], ElasticsearchRefresh::Immediate).await.unwrap();
    c.write_many(&[("k", Some("{}".into())), ("l", Some("{\n}".into()))]).await.unwrap();
    assert_eq!((hits(server, &names[2]).await, hits(server, &names[1]).await), (2, 0));
}

/// A value that the store was told to take and the server does not: over its `http.max_content_length`.
pub(crate) async fn a_value_over_the_servers_limit_is_refused(server: &Server) {
    let store = server.store(server.config().max_value_bytes(200 << 20)).await;
    let value = format!("{{\"a\":\"{}\"}}", "x".repeat(101 << 20));
    let error = store.put("a", value).await.unwrap_err();
    // The server answers 413 and closes the connection, which may be seen first.
    assert!(matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unavailable), "{error}");
    assert_eq!(error.get("key"), Some("a"), "{error}");
}

pub(crate) async fn urls_connect(server: &Server) {
    let name = new_name("url");
    let url = format!("elasticsearch+http://me:secret@{}/{name}?encoding=binary", server.address);
    let store = connect(&url).await.unwrap();
    store.put("a", "any").await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), Some("any".into()));
    let multi = connect_multi(&url).await.unwrap();
    kasper::multitenant::MultiStore::tenant(&multi, "acme").unwrap().put("a", "b").await.unwrap();
    let found = server.ask(Method::GET, &format!("/{name}-acme/_doc/a"), "").await;
    assert_eq!(found["_source"], json!({"value": "Yg=="}), "{found}");
    let nobody = FaultProxy::start("127.0.0.1:1").await.unwrap().address();
    let error = connect(&format!("elasticsearch://me:secret@{nobody}/{name}")).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true), "{error}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}

pub(crate) async fn a_value_that_is_kept_does_not_keep_the_answer_that_it_came_in(server: &Server) {
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    for store in [server.store(server.config()).await, server.bytes_store().await] {
        let changes = [("large", Some(Bytes::from(large.clone()))), ("small", Some("{}".into()))];
        store.write_many(&changes).await.unwrap();
        let found = store.get_many(&["large", "small", "large"]).await.unwrap();
        let kept = found.into_iter().nth(1).flatten().unwrap();
        // Nobody else has it now, so what it takes can be seen; base64 is decoded into some bytes more.
        assert!(kept.try_into_mut().unwrap().capacity() <= 4);
    }
}
