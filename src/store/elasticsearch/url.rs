//! `elasticsearch+http://user:password@host:9200,other:9200/index?option=…`

use super::config::{ElasticsearchConfig, ElasticsearchEncoding, ElasticsearchRefresh};
use super::index::ElasticsearchIndex;
use super::multi::MultiElasticsearchStore;
use super::store::ElasticsearchStore;
use crate::error::{Error, ErrorKind, Result};
use crate::store::url::{Parts, Setting, Wrong, decoded, settings};

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
    let fault = |message: Wrong| {
        let form = "elasticsearch+http://user:password@host:9200,host:9200/index";
        Error::new(ErrorKind::Config, format!("{message}; a URL is such as {form}"))
    };
    let parts = Parts::split(url).map_err(|wrong| fault(wrong.to_owned()))?;
    let scheme = if parts.scheme.ends_with("https") { "https" } else { "http" };
    let path = parts.path.unwrap_or_default().trim_end_matches('/');
    let index = decoded("the index", path).map_err(fault)?;
    if index.is_empty() {
        return Err(fault("the index is missing".to_owned()));
    }
    let mut nodes = parts.hosts.split(',').map(|host| format!("{scheme}://{}", with_port(host)));
    let mut config = ElasticsearchConfig::new(nodes.next().unwrap_or_default());
    config = nodes.fold(config, ElasticsearchConfig::node);
    if let Some((user, password)) = parts.login {
        let user = decoded("the user", user).map_err(fault)?;
        let password = decoded("the password", password.unwrap_or_default()).map_err(fault)?;
        config = config.basic_auth(&user, &password);
    }
    let mut document_type = None;
    for setting in settings(parts.settings) {
        let setting = setting.map_err(fault)?;
        let set = set(config, &mut document_type, setting);
        config = set.map_err(fault)?;
    }
    Ok(Parsed { config, index, document_type })
}

/// What may stand behind the `?`.
pub(in crate::store) const URL_SETTINGS: &[&str] =
    &["encoding", "refresh", "api_key", "type", "deadline", "request_timeout", "connect_timeout"];

fn set(
    config: ElasticsearchConfig,
    document_type: &mut Option<String>,
    setting: Setting<'_>,
) -> Result<ElasticsearchConfig, Wrong> {
    Ok(match setting.name {
        "encoding" => {
            let words =
                [("json", ElasticsearchEncoding::Json), ("binary", ElasticsearchEncoding::Binary)];
            config.encoding(setting.word(&words)?)
        }
        "refresh" => config.refresh(setting.word(&[
            ("later", ElasticsearchRefresh::Later),
            ("wait_for", ElasticsearchRefresh::WaitFor),
            ("immediate", ElasticsearchRefresh::Immediate),
        ])?),
        "api_key" => config.api_key(&setting.value),
        "type" => {
            *document_type = Some(setting.value);
            config
        }
        "deadline" => config.deadline(setting.duration()?),
        "request_timeout" => config.request_timeout(setting.duration()?),
        "connect_timeout" => config.connect_timeout(setting.duration()?),
        _ => return Err(setting.unknown(URL_SETTINGS)),
    })
}

#[cfg(test)]
pub(in crate::store) fn check_url(url: &str) -> Result<()> {
    parse(url).map(drop)
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

#[cfg(test)]
mod tests {
    use super::super::client::ElasticsearchClient;
    use super::*;

    #[test]
    fn a_url_says_all() {
        let url = "elasticsearch+https://me:p%40ss@a,b:1,[::1]/my-index?refresh=wait_for&encoding=binary&type=t\
                   &deadline=2m&request_timeout=30s&connect_timeout=500ms";
        let parsed = parse(url).unwrap();
        assert_eq!(parsed.config.nodes, ["https://a:9200", "https://b:1", "https://[::1]:9200"]);
        assert_eq!(parsed.config.authorization.as_deref(), Some("Basic bWU6cEBzcw=="));
        assert_eq!(
            (parsed.config.refresh, parsed.config.encoding),
            (ElasticsearchRefresh::WaitFor, ElasticsearchEncoding::Binary)
        );
        assert_eq!((&*parsed.index, parsed.document_type.as_deref()), ("my-index", Some("t")));
        let config = parsed.config;
        let times = [config.deadline, config.request_timeout, config.connect_timeout];
        assert_eq!(times.map(|time| time.as_millis()), [120_000, 30_000, 500]);
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
