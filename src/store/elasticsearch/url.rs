//! `elasticsearch+http://user:password@host:9200,other:9200/index?option=…`

use percent_encoding::percent_decode_str;

use super::config::{ElasticsearchConfig, Encoding, Refresh};
use super::index::ElasticsearchIndex;
use super::multi::MultiElasticsearchStore;
use super::store::ElasticsearchStore;
use crate::error::{Error, ErrorKind, Result};
use crate::store::url::Parts;

/// What a URL says.
#[derive(Debug)]
struct Parsed {
    config: ElasticsearchConfig,
    /// An index, or the beginning of the tenants' ones.
    index: String,
    document_type: Option<String>,
}

/// # Errors
/// [`Config`](ErrorKind::Config), without what may be a password.
fn parse(url: &str) -> Result<Parsed> {
    let fault = |message: &str| {
        let form = "elasticsearch+http://user:password@host:9200,host:9200/index";
        Error::new(ErrorKind::Config, format!("{message}; a URL is such as {form}"))
    };
    let parts = Parts::split(url).map_err(fault)?;
    let scheme = if parts.scheme.ends_with("https") { "https" } else { "http" };
    let index = decoded(parts.path.unwrap_or_default().trim_end_matches('/'));
    if index.is_empty() {
        return Err(fault("the index is missing"));
    }
    let mut nodes = parts.hosts.split(',').map(|host| format!("{scheme}://{}", with_port(host)));
    let mut config = ElasticsearchConfig::new(nodes.next().unwrap_or_default());
    config = nodes.fold(config, ElasticsearchConfig::node);
    if let Some((user, password)) = parts.login {
        config = config.basic_auth(&decoded(user), &decoded(password.unwrap_or_default()));
    }
    let mut document_type = None;
    for (name, value) in parts.settings() {
        config = match (name, value) {
            ("encoding", "json") => config.encoding(Encoding::Json),
            ("encoding", "binary") => config.encoding(Encoding::Binary),
            ("refresh", "later") => config.refresh(Refresh::Later),
            ("refresh", "wait_for") => config.refresh(Refresh::WaitFor),
            ("refresh", "immediate") => config.refresh(Refresh::Immediate),
            ("api_key", key) => config.api_key(&decoded(key)),
            ("type", name) => {
                document_type = Some(decoded(name));
                config
            }
            (name, _) => {
                return Err(fault(&format!(
                    "`{name}` is no option, or has no such value: there are encoding=json|binary, \
                     refresh=later|wait_for|immediate, api_key and type"
                )));
            }
        };
    }
    Ok(Parsed { config, index, document_type })
}

/// [`connect`](crate::store::connect) for this kind of store.
pub(in crate::store) async fn connect(url: &str) -> Result<ElasticsearchStore> {
    let Parsed { config, index, document_type } = parse(url)?;
    ElasticsearchStore::connect(config, ElasticsearchIndex { name: index, document_type }).await
}

/// [`connect_multi`](crate::store::connect_multi) for this kind of store.
pub(in crate::store) async fn connect_multi(url: &str) -> Result<MultiElasticsearchStore> {
    let Parsed { config, index, document_type } = parse(url)?;
    let tenancy = move |tenant: &str| ElasticsearchIndex {
        name: format!("{index}-{tenant}"),
        document_type: document_type.clone(),
    };
    MultiElasticsearchStore::connect(config, tenancy).await
}

/// The servers' port, where none is given; HTTP's own is never meant.
fn with_port(host: &str) -> String {
    let after_address = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    if after_address.contains(':') { host.to_owned() } else { format!("{host}:9200") }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::client::ElasticsearchClient;
    use super::*;

    #[test]
    fn a_url_says_all() {
        let url = "elasticsearch+https://me:p%40ss@a,b:1,[::1]/my-index?refresh=wait_for&encoding=binary&type=t";
        let parsed = parse(url).unwrap();
        assert_eq!(parsed.config.nodes, ["https://a:9200", "https://b:1", "https://[::1]:9200"]);
        assert_eq!(parsed.config.authorization.as_deref(), Some("Basic bWU6cEBzcw=="));
        assert_eq!(
            (parsed.config.refresh, parsed.config.encoding),
            (Refresh::WaitFor, Encoding::Binary)
        );
        assert_eq!((&*parsed.index, parsed.document_type.as_deref()), ("my-index", Some("t")));
        let parsed = parse("elasticsearch://a/i/").unwrap();
        assert_eq!((&*parsed.config.nodes[0], &*parsed.index), ("http://a:9200", "i"));
    }

    #[test]
    fn a_wrong_url_is_told_without_the_password() {
        for url in [
            "elasticsearch:a/i",
            "elasticsearch://me:secret@a",
            "elasticsearch://me:secret@a/",
            "elasticsearch://me:secret/secret@a/i",
            "elasticsearch://me:secret?secret@a/i",
        ] {
            let client = |parsed: Parsed| ElasticsearchClient::new(parsed.config);
            let error = parse(url).and_then(client).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!error.to_string().contains("secret"));
        }
        let error = parse("elasticsearch://me:secret@a/i?speed=11").unwrap_err().to_string();
        assert!(error.contains("`speed`") && !error.contains("secret"), "{error}");
    }
}
