//! `cassandra://` URLs.

use std::time::Duration;

use super::config::{CassandraConfig, CassandraConsistency};
use crate::error::{Error, ErrorKind, Result};
use crate::store::url::Parts;

const FORM: &str =
    "a URL of Cassandra is `cassandra://[user:password@]host1[:port],host2/keyspace/table`";

impl CassandraConfig {
    /// From a URL: `cassandra://[user:password@]host1[:port][,host2[:port]…]/keyspace/table`.
    ///
    /// Special characters in user and password are written as in any URL (`%40` for `@`). Settings may
    /// follow after a `?`: `consistency` (`local_quorum`, `quorum`, `all`, `local_one`, `one`),
    /// `datacenter`, `ttl` and `timeout` in seconds, `create_table_if_missing=true`.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): it is not such a URL. The error does not contain the password.
    pub fn from_url(url: &str) -> Result<Self> {
        parse(url)
    }
}

fn parse(url: &str) -> Result<CassandraConfig> {
    let url = Parts::split(url).map_err(fault)?;
    if url.scheme != "cassandra" {
        return Err(fault("another scheme"));
    }
    let mut parts = url.path.unwrap_or_default().trim_end_matches('/').split('/');
    let (Some(keyspace), Some(table), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(fault("other parts between the `/`"));
    };
    if url.hosts.split(',').any(str::is_empty) {
        return Err(fault("a host without a name"));
    }
    let mut config = CassandraConfig::new(url.hosts.split(','), decode(keyspace)?, decode(table)?);
    if let Some((user, password)) = url.login {
        let password = password.ok_or_else(|| fault("a user without a password"))?;
        config = config.user(decode(user)?, decode(password)?);
    }
    for (name, value) in url.settings() {
        config = set(config, name, &decode(value)?)?;
    }
    config.check()?;
    Ok(config)
}

fn set(config: CassandraConfig, name: &str, value: &str) -> Result<CassandraConfig> {
    let seconds = || value.parse().map(Duration::from_secs).ok();
    let set = match name {
        "consistency" => consistency(value).map(|value| config.consistency(value)),
        "datacenter" => Some(config.local_datacenter(value)),
        "ttl" => seconds().map(|time| config.ttl(time)),
        "timeout" => seconds().map(|time| config.request_timeout(time).connect_timeout(time)),
        "create_table_if_missing" => {
            value.parse().ok().map(|value| config.create_table_if_missing(value))
        }
        _ => return Err(fault("a setting that there is not").with("setting", name)),
    };
    set.ok_or_else(|| fault("a setting with a value that it can't have").with("setting", name))
}

fn consistency(value: &str) -> Option<CassandraConsistency> {
    Some(match value.to_ascii_lowercase().as_str() {
        "local_quorum" => CassandraConsistency::LocalQuorum,
        "quorum" => CassandraConsistency::Quorum,
        "all" => CassandraConsistency::All,
        "local_one" => CassandraConsistency::LocalOne,
        "one" => CassandraConsistency::One,
        _ => return None,
    })
}

/// `%40` is `@`.
fn decode(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    bytes.extend(pieces.next().unwrap_or_default().bytes());
    for piece in pieces {
        let code = piece.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok());
        let code = code.ok_or_else(|| fault("a `%` without two digits"))?;
        bytes.push(code);
        bytes.extend(piece.bytes().skip(2));
    }
    String::from_utf8(bytes).map_err(|_| fault("bytes that are no text"))
}

/// Without the URL: it may have a password in it.
fn fault(what: &str) -> Error {
    Error::new(ErrorKind::Config, format!("{FORM}; this one has {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_read() {
        let config = parse(
            "cassandra://me:p%40ss%2f:@[::1]:9043,b.example/shop/counts\
             ?consistency=ALL&datacenter=dc%201&ttl=60&timeout=3&create_table_if_missing=true",
        )
        .unwrap();
        assert_eq!(config.nodes, ["[::1]:9043", "b.example"]);
        assert_eq!((&*config.keyspace, &*config.table), ("shop", "counts"));
        assert_eq!(config.user, Some(("me".to_owned(), "p@ss/:".to_owned())));
        assert_eq!(config.consistency, CassandraConsistency::All);
        assert_eq!(config.local_datacenter.as_deref(), Some("dc 1"));
        assert_eq!(config.ttl, Some(Duration::from_secs(60)));
        assert_eq!(config.request_timeout, Duration::from_secs(3));
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
            "cassandra://u:secret@host/keyspace/table?ttl=soon",
            "cassandra://u:secret@host/keyspace/table?ttl=0",
            "cassandra://u:secret@host/keyspace/table?consistency=any",
        ] {
            let error = parse(url).unwrap_err();
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
