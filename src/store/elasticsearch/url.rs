//! `elasticsearch+http://user:password@host:9200,other:9200/index?option=…`

use super::config::{ElasticsearchConfig, ElasticsearchEncoding, ElasticsearchRefresh};
use crate::error::{Error, ErrorKind, Result};
use crate::store::url::{Parts, Setting, Wrong, decoded, settings};

impl ElasticsearchConfig {
    /// From a URL: `elasticsearch+http://[user:password@]host1[:port][,host2[:port]…]/index`, or `elasticsearch+https://…`
    /// (feature `elasticsearch-tls`). The port is 9200 where none is given.
    ///
    /// Special characters in user and password are written as in any URL (`%40` for `@`). Settings may follow after a
    /// `?`: `encoding` (`json`, `binary`), `refresh` (`later`, `wait_for`, `immediate`), `api_key`, `document_type`, `timeout`,
    /// `request_timeout` and `connect_timeout` (as `10s` or `500ms`).
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): it is not such a URL. The error does not contain the password. What the settings
    /// say is checked when connecting.
    pub fn from_url(url: &str) -> Result<Self> {
        parse(url).map_err(|wrong| {
            let form = "elasticsearch+http://user:password@host:9200,host:9200/index";
            Error::new(ErrorKind::Config, format!("{wrong}; a URL is such as {form}"))
        })
    }
}

/// What is wrong is told without what may be a password.
fn parse(url: &str) -> Result<ElasticsearchConfig, Wrong> {
    let parts = Parts::split(url)?;
    let scheme = match parts.scheme {
        "elasticsearch" | "elasticsearch+http" => "http",
        "elasticsearch+https" => "https",
        other => return Err(format!("`{other}` is none of Elasticsearch's schemes")),
    };
    let path = parts.path.unwrap_or_default().trim_end_matches('/');
    let index = decoded("the index", path)?;
    if index.is_empty() {
        return Err("the index is missing".to_owned());
    }
    let mut nodes = parts.hosts.split(',').map(|host| format!("{scheme}://{}", with_port(host)));
    let mut config = ElasticsearchConfig::new(nodes.next().unwrap_or_default(), index);
    config = nodes.fold(config, ElasticsearchConfig::node);
    if let Some((user, password)) = parts.login {
        config = config.user(decoded("the user", user)?);
        if let Some(password) = password {
            config = config.password(decoded("the password", password)?);
        }
    }
    settings(parts.settings).try_fold(config, |config, setting| set(config, setting?))
}

/// What may stand behind the `?`.
pub(in crate::store) const URL_SETTINGS: &[&str] = &[
    "encoding",
    "refresh",
    "api_key",
    "document_type",
    "timeout",
    "request_timeout",
    "connect_timeout",
];

fn set(
    mut config: ElasticsearchConfig,
    setting: Setting<'_>,
) -> Result<ElasticsearchConfig, Wrong> {
    Ok(match setting.name {
        "encoding" => config.encoding(setting.word(&[
            ("json", ElasticsearchEncoding::Json),
            ("binary", ElasticsearchEncoding::Binary),
        ])?),
        "refresh" => config.refresh(setting.word(&[
            ("later", ElasticsearchRefresh::Later),
            ("wait_for", ElasticsearchRefresh::WaitFor),
            ("immediate", ElasticsearchRefresh::Immediate),
        ])?),
        "api_key" => config.api_key(setting.value),
        "document_type" => {
            config.index = config.index.document_type(setting.value);
            config
        }
        "timeout" => config.timeout(setting.duration()?),
        "request_timeout" => config.request_timeout(setting.duration()?),
        "connect_timeout" => config.connect_timeout(setting.duration()?),
        _ => return Err(setting.unknown(URL_SETTINGS)),
    })
}

/// The servers' port, where none is given; HTTP's own is never meant.
fn with_port(host: &str) -> String {
    let after_address = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    if after_address.contains(':') { host.to_owned() } else { format!("{host}:9200") }
}

#[cfg(test)]
mod tests {
    use super::super::client::ElasticsearchClient;
    use super::super::index::ElasticsearchIndex;
    use super::*;

    #[test]
    fn a_url_says_all() {
        let url = "elasticsearch+https://me:p%40ss@a,b:1,[::1]/my-index?refresh=wait_for&encoding=binary&document_type=t\
                   &timeout=2m&request_timeout=30s&connect_timeout=500ms";
        let config = parse(url).unwrap();
        assert_eq!(config.nodes, ["https://a:9200", "https://b:1", "https://[::1]:9200"]);
        assert_eq!(config.authorization().as_deref(), Some("Basic bWU6cEBzcw=="));
        assert_eq!(
            (config.refresh, config.encoding),
            (ElasticsearchRefresh::WaitFor, ElasticsearchEncoding::Binary)
        );
        assert_eq!(config.index, ElasticsearchIndex::new("my-index").document_type("t"));
        let times = [config.timeout, config.request_timeout, config.connect_timeout];
        assert_eq!(times.map(|time| time.as_millis()), [120_000, 30_000, 500]);
        let config = parse("elasticsearch://a/i/").unwrap();
        assert_eq!((&*config.nodes[0], &*config.index.name), ("http://a:9200", "i"));
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
            let client = |config| ElasticsearchClient::new(&config);
            let error = ElasticsearchConfig::from_url(url).and_then(client).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!error.to_string().contains("secret"));
        }
        let error = ElasticsearchConfig::from_url("elasticsearch://me:secret@a/i?speed=11");
        let error = error.unwrap_err().to_string();
        assert!(error.contains("`speed`") && !error.contains("secret"), "{error}");
    }
}
