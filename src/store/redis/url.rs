//! URLs of stores in Redis.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::{RedisConfig, RedisOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::store::url::Parts;

impl RedisConfig {
    /// A configuration from a URL, as described above.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): what is wrong with it, without the password.
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
    let prefix = decoded("the prefix", path)?;
    if !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong(format!(
            "the path is the prefix of the keys, and `{prefix}` looks like a database's number: write `?db={prefix}` for that"
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
            config = config.user(decoded("the user", user)?);
        }
        if let Some(password) = password.filter(|password| !password.is_empty()) {
            config = config.password(decoded("the password", password)?);
        }
    }
    with_settings(config, &parts)
}

fn with_settings(mut config: RedisConfig, parts: &Parts<'_>) -> Result<RedisConfig> {
    let mut options: RedisOptions = config.options().clone();
    for (name, value) in parts.settings() {
        let number: u64 = value.parse().map_err(|_| {
            wrong(format!("`{name}` has to be a number from 0 to {}, and not `{value}`", u64::MAX))
        })?;
        let time = Duration::from_millis(number);
        match name {
            "db" => {
                let database = u32::try_from(number);
                let too_large =
                    |_| wrong(format!("`db` can be {} at most, and not {number}", u32::MAX));
                config = config.database(database.map_err(too_large)?);
            }
            "timeout_ms" => options = options.timeout(time),
            "connect_timeout_ms" => options = options.connect_timeout(time),
            "ttl_ms" => options = options.ttl(time),
            _ => {
                let known = "`db`, `timeout_ms`, `connect_timeout_ms` and `ttl_ms`";
                return Err(wrong(format!("there is no option `{name}`, only {known}")));
            }
        }
    }
    Ok(config.with_options(options))
}

fn decoded(what: &str, text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| wrong(format!("{what} is not UTF-8")))
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
            "redis://an%6E:open%40sesame@[::1]:7000/a%20b?db=3&timeout_ms=1500&connect_timeout_ms=700&ttl_ms=60000",
        );
        for part in [
            "servers: \"[::1]:7000\"",
            "is_cluster: false",
            "user: Some(\"ann\")",
            "has_password: true",
            "database: 3",
            "has_tls: false",
            "prefix: \"a b\"",
            "timeout: 1.5s",
            "connect_timeout: 700ms",
            "ttl: Some(60s)",
        ] {
            assert!(config.contains(part), "{part} in {config}");
        }
        // 60 days.
        assert!(debug("redis://h/p?ttl_ms=5184000000").contains("ttl: Some(5184000s)"));
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
            ("redis://:sesame@h/3", "`?db=3`"),
            ("redis://:sesame@h/p?db=x", "`db` has to be a number"),
            ("redis://:sesame@h/p?db=4294967296", "`db` can be 4294967295 at most"),
            ("redis://:sesame@h/p?ttl_ms=18446744073709551616", "`ttl_ms` has to be a number"),
            ("redis://:sesame@h/p?ttl_ms=18446744073709551615", "`ttl` can be"),
            ("redis://:sesame@h/p?timeout_ms=0", "`timeout` is zero"),
            ("redis://:sesame@h/p?database=3", "no option `database`"),
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
