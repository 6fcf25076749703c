//! URLs of stores in Redis.

use super::RedisConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::store::url::{Parts, Setting, Wrong, decoded, settings};

impl RedisConfig {
    /// A configuration from a URL, as described above.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): it is not such a URL. The error does not contain the password. What the settings
    /// say is checked when connecting.
    pub fn from_url(url: &str) -> Result<Self> {
        parse(url)
    }
}

/// What [`RedisConfig`]'s documentation says.
fn parse(url: &str) -> Result<RedisConfig> {
    let parts = Parts::split(url).map_err(wrong)?;
    let (is_cluster, has_tls) = match parts.scheme {
        "redis" => (false, false),
        "rediss" => (false, true),
        "redis+cluster" => (true, false),
        "rediss+cluster" => (true, true),
        other => return Err(wrong(format!("`{other}` is none of Redis's schemes"))),
    };
    let path = parts
        .path
        .ok_or_else(|| wrong("the prefix is missing: write `/PREFIX` behind the server"))?;
    let prefix = decoded("the prefix", path).map_err(wrong)?;
    if !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong(format!(
            "the path is the prefix of the keys, and `{prefix}` looks like a database's number: write `?database={prefix}` for that"
        )));
    }
    let mut config = match is_cluster {
        true => RedisConfig::cluster(parts.hosts, prefix),
        false => RedisConfig::new(parts.hosts, prefix),
    };
    if has_tls {
        config = config.with_tls();
    }
    if let Some((user, password)) = parts.login {
        if !user.is_empty() {
            config = config.user(decoded("the user", user).map_err(wrong)?);
        }
        if let Some(password) = password.filter(|password| !password.is_empty()) {
            config = config.password(decoded("the password", password).map_err(wrong)?);
        }
    }
    settings(parts.settings)
        .try_fold(config, |config, setting| set(config, &setting?))
        .map_err(wrong)
}

/// What may stand behind the `?`.
pub(in crate::store) const URL_SETTINGS: &[&str] =
    &["database", "request_timeout", "connect_timeout", "ttl"];

fn set(config: RedisConfig, setting: &Setting<'_>) -> Result<RedisConfig, Wrong> {
    Ok(match setting.name {
        "database" => {
            config.database(setting.parsed(format_args!("a number from 0 to {}", u32::MAX))?)
        }
        "request_timeout" => config.request_timeout(setting.duration()?),
        "connect_timeout" => config.connect_timeout(setting.duration()?),
        "ttl" => config.ttl(setting.duration()?),
        _ => return Err(setting.unknown(URL_SETTINGS)),
    })
}

fn wrong(message: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Config, format!("the URL of a store in Redis is wrong: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debug(url: &str) -> String {
        format!("{:?}", parse(url).unwrap())
    }

    #[test]
    fn every_part_is_read() {
        let config = debug(
            "redis://an%6E:open%40sesame@[::1]:7000/a%20b?database=3&request_timeout=1500ms&connect_timeout=700ms&ttl=1m",
        );
        for part in [
            "servers: \"[::1]:7000\"",
            "is_cluster: false",
            "user: Some(\"ann\")",
            "has_password: true",
            "database: 3",
            "has_tls: false",
            "prefix: \"a b\"",
            "request_timeout: 1.5s",
            "connect_timeout: 700ms",
            "ttl: Some(60s)",
        ] {
            assert!(config.contains(part), "{part} in {config}");
        }
        assert!(debug("redis://h/p?ttl=60days").contains("ttl: Some(5184000s)"));
        let config = debug("rediss+cluster://:p@a,b:7001/p");
        for part in ["servers: \"a,b:7001\"", "is_cluster: true", "user: None", "has_tls: true"] {
            assert!(config.contains(part), "{part} in {config}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_the_password() {
        for (url, what) in [
            ("redis:h/p", "no `://`"),
            ("http://h/p", "`http` is none"),
            ("redis://:sesame@h", "prefix is missing"),
            ("redis://:sesame@h/3", "`?database=3`"),
            ("redis://:sesame@h/p?database=x", "`database` is a number from 0 to 4294967295"),
            (
                "redis://:sesame@h/p?database=4294967296",
                "`database` is a number from 0 to 4294967295",
            ),
            ("redis://:sesame@h/p?ttl=60", "`ttl` is a duration with its unit"),
            ("redis://:sesame@h/p?ttl=18446744073709551615s", "`ttl` can be"),
            ("redis://:sesame@h/p?request_timeout=0s", "`request_timeout` is zero"),
            (
                "redis://:sesame@h/p?timeout=10s",
                "no setting `timeout`, only `database`, `request_timeout`",
            ),
            ("redis://:sesame@h/p?db=3", "no setting `db`"),
            ("redis://:%FF@h/p", "the password is not UTF-8"),
            ("redis://:open/sesame@h/p", "an `@` behind"),
            ("redis://:open?sesame@h/p", "an `@` behind"),
        ] {
            let error = parse(url).and_then(|config| config.client()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let error = format!("{error:?}");
            assert!(error.contains(what) && !error.contains("sesame"), "{url}: {error}");
        }
    }

    #[test]
    fn a_slash_in_the_prefix_is_refused_however_it_is_written() {
        for url in ["redis://h/a/b", "redis://h/a%2Fb", "redis://h/a/", "redis://h/"] {
            let error = parse(url).unwrap().client().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        }
    }

    #[cfg(not(feature = "redis-tls"))]
    #[test]
    fn tls_wants_its_feature() {
        let error = parse("rediss://h/p").unwrap().client().unwrap_err();
        assert!(error.to_string().contains("`redis-tls`"), "{error}");
    }
}
