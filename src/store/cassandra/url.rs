//! `cassandra://` URLs.

use super::config::{CassandraConfig, CassandraConsistency};
use crate::error::{Error, ErrorKind, Result};
use crate::store::url::{Parts, Setting, Wrong, decoded, settings};

const FORM: &str =
    "a URL of Cassandra is `cassandra://[user:password@]host1[:port],host2/keyspace/table`";

impl CassandraConfig {
    /// From a URL: `cassandra://[user:password@]host1[:port][,host2[:port]…]/keyspace/table`.
    ///
    /// Special characters in user and password are written as in any URL (`%40` for `@`). Settings may
    /// follow after a `?`: `consistency` (`local_quorum`, `quorum`, `all`, `local_one`, `one`),
    /// `local_datacenter`, `ttl`, `request_timeout` and `connect_timeout` (as `10s` or `500ms`), `create_table_if_missing=true`.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): it is not such a URL. The error does not contain the password. What the settings
    /// say is checked when connecting.
    pub fn from_url(url: &str) -> Result<Self> {
        parse(url)
    }
}

fn parse(url: &str) -> Result<CassandraConfig> {
    let url = Parts::split(url).map_err(fault)?;
    if url.scheme != "cassandra" {
        return Err(fault("the scheme is another one"));
    }
    let mut parts = url.path.unwrap_or_default().trim_end_matches('/').split('/');
    let (Some(keyspace), Some(table), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(fault("there are other parts between the `/`"));
    };
    if url.hosts.split(',').any(str::is_empty) {
        return Err(fault("a host has no name"));
    }
    let mut config = CassandraConfig::new(
        url.hosts.split(','),
        decode("the keyspace", keyspace)?,
        decode("the table", table)?,
    );
    if let Some((user, password)) = url.login {
        config = config.user(decode("the user", user)?);
        if let Some(password) = password {
            config = config.password(decode("the password", password)?);
        }
    }
    for setting in settings(url.settings) {
        config = setting.and_then(|setting| set(config, &setting)).map_err(fault)?;
    }
    Ok(config)
}

/// What may stand behind the `?`.
pub(in crate::store) const URL_SETTINGS: &[&str] = &[
    "consistency",
    "local_datacenter",
    "ttl",
    "request_timeout",
    "connect_timeout",
    "create_table_if_missing",
];

const CONSISTENCIES: &[(&str, CassandraConsistency)] = &[
    ("local_quorum", CassandraConsistency::LocalQuorum),
    ("quorum", CassandraConsistency::Quorum),
    ("all", CassandraConsistency::All),
    ("local_one", CassandraConsistency::LocalOne),
    ("one", CassandraConsistency::One),
];

fn set(config: CassandraConfig, setting: &Setting<'_>) -> Result<CassandraConfig, Wrong> {
    Ok(match setting.name {
        "consistency" => config.consistency(setting.word(CONSISTENCIES)?),
        "local_datacenter" => config.local_datacenter(&setting.value),
        "ttl" => config.ttl(setting.duration()?),
        "request_timeout" => config.request_timeout(setting.duration()?),
        "connect_timeout" => config.connect_timeout(setting.duration()?),
        "create_table_if_missing" => {
            config.create_table_if_missing(setting.parsed("`true` or `false`")?)
        }
        _ => return Err(setting.unknown(URL_SETTINGS)),
    })
}

fn decode(what: &str, text: &str) -> Result<String> {
    decoded(what, text).map_err(fault)
}

/// Without the URL: it may have a password in it.
fn fault(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Config, format!("{FORM}; in this one {what}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn all_parts_are_read() {
        let config = parse(
            "cassandra://me:p%40ss%2f:@[::1]:9043,b.example/shop/counts\
             ?consistency=ALL&local_datacenter=dc%201&ttl=60s&request_timeout=3s&connect_timeout=2500ms&create_table_if_missing=true",
        )
        .unwrap();
        assert_eq!(config.nodes, ["[::1]:9043", "b.example"]);
        assert_eq!((&*config.keyspace, &*config.table), ("shop", "counts"));
        assert_eq!(config.user.as_deref(), Some("me"));
        assert_eq!(config.password.as_deref(), Some("p@ss/:"));
        assert_eq!(config.consistency, CassandraConsistency::All);
        assert_eq!(config.local_datacenter.as_deref(), Some("dc 1"));
        assert_eq!(config.ttl, Some(Duration::from_secs(60)));
        assert_eq!(config.request_timeout, Duration::from_secs(3));
        assert_eq!(config.connect_timeout, Duration::from_millis(2500));
        assert!(config.create_table_if_missing);
        assert!(!format!("{config:?}").contains("p@ss"), "{config:?}");
    }

    #[test]
    fn what_is_none_is_refused_without_the_password() {
        for url in [
            "cassandra:",
            "cassandra://",
            "cassandra://host",
            "cassandra://u:secret@host/keyspace",
            "cassandra://u:secret@host/keyspace/table/more",
            "cassandra://u:secret/secret@host/table",
            "cassandra://u:secret?secret@host/keyspace/table",
            "cassandra://u:secret@/keyspace/table",
            "cassandra://u:secret@host,,host/keyspace/table",
            "cassandra://secret@host/keyspace/table",
            "cassandra://u:secret%4@host/keyspace/table",
            "cassandra://u:secret%ff@host/keyspace/table",
            "cassandra://u:secret@host/key-space/table",
            "cassandra://u:secret@host/keyspace/table%22%3b",
            "cassandra://u:secret@host/keyspace/table?colour=red",
            "cassandra://u:secret@host/keyspace/table?ttl=60",
            "cassandra://u:secret@host/keyspace/table?ttl=0s",
            "cassandra://u:secret@host/keyspace/table?consistency=any",
        ] {
            let error = parse(url).and_then(|config| config.check()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}: {error}");
            assert!(!error.to_string().contains("secret"), "{url}: {error}");
        }
    }

    #[test]
    fn a_node_is_no_url_and_its_password_is_not_printed() {
        let config = CassandraConfig::new(["a", "u:secret@host"], "keyspace", "table");
        let error = config.check().unwrap_err();
        let text = format!("{config:?} {error:?} {}", config.server());
        assert!(text.contains("CassandraConfig::from_url") && !text.contains("secret"), "{text}");
    }
}
