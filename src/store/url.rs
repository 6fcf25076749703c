//! URLs of stores: `scheme://user:password@host:port,host/path?name=value&…`. They name several hosts, which is why no
//! general parser reads them.
//!
//! All kinds of stores read them alike: `%40` is `@` in every part, and a duration has its unit (`10s`, `500ms`).

use std::fmt::Display;

use percent_encoding::percent_decode_str;

pub(crate) use crate::setting::{Setting, Wrong};

/// The parts of a URL, as they stand there: [`decoded`] is still to be called on them.
#[cfg(any(feature = "redis", feature = "cassandra", feature = "elasticsearch"))]
pub(crate) struct Parts<'a> {
    pub(crate) scheme: &'a str,
    /// The user, who may be empty, and the password.
    pub(crate) login: Option<(&'a str, Option<&'a str>)>,
    /// Separated by commas.
    pub(crate) hosts: &'a str,
    /// What is behind the first `/`, if there is one.
    pub(crate) path: Option<&'a str>,
    /// What is behind the `?`, for [`settings`].
    pub(crate) settings: &'a str,
}

#[cfg(any(feature = "redis", feature = "cassandra", feature = "elasticsearch"))]
impl<'a> Parts<'a> {
    /// # Errors
    /// What is wrong, without a part of the URL: any of it may be a password.
    pub(crate) fn split(url: &'a str) -> Result<Self, &'static str> {
        let (scheme, rest) = url.split_once("://").ok_or("there is no `://`")?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        // Else the beginning of a password would be taken for a host, and shown as one.
        if rest[end..].contains('@') {
            return Err(
                "there is an `@` behind a `/` or a `?`: write `%40` for it there, and in a \
                        password `%2F` for `/` and `%3F` for `?`",
            );
        }
        let (place, settings) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match place.split_once('/') {
            Some((authority, path)) => (authority, Some(path)),
            None => (place, None),
        };
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let login = login.map(|login| match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        });
        Ok(Self { scheme, login, hosts, path, settings })
    }
}

/// The settings of a URL, which stand behind its `?` with `&` in between.
pub(crate) fn settings(text: &str) -> impl Iterator<Item = Result<Setting<'_>, Wrong>> {
    let settings = text.split('&').filter(|setting| !setting.is_empty());
    settings.map(|setting| {
        let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
        Ok(Setting { name, value: decoded(format_args!("`{name}`"), value)? })
    })
}

/// A part of a URL with `@` for `%40`. `what` names it in the error.
pub(crate) fn decoded(what: impl Display, text: &str) -> Result<String, Wrong> {
    let mut codes = text.split('%').skip(1);
    let is_code = |code: &str| code.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !codes.all(is_code) {
        return Err(format!("{what} has a `%` without two digits behind it; write `%25` for `%`"));
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| format!("{what} is not UTF-8"))
}

/// A server's address without the user and password that somebody may have put there.
#[cfg(any(feature = "redis", feature = "cassandra", feature = "elasticsearch"))]
pub(crate) fn without_login(server: &str) -> &str {
    server.rsplit_once('@').map_or(server, |(_, rest)| rest)
}

/// Whether this is rather a URL than a `host:port`.
#[cfg(any(feature = "redis", feature = "cassandra"))]
pub(crate) fn is_url(server: &str) -> bool {
    server.contains("://") || server.contains('@')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_setting_is_decoded_and_a_duration_has_its_unit() {
        let all: Result<Vec<_>, _> = settings("a=1%26&&t=1h%2030m&empty").collect();
        let all = all.unwrap();
        let pairs: Vec<_> = all.iter().map(|s| (s.name, s.value.as_str())).collect();
        assert_eq!(pairs, [("a", "1&"), ("t", "1h 30m"), ("empty", "")]);
        assert_eq!(all[1].duration().unwrap(), Duration::from_mins(90));
        for wrong in ["t=10", "t=", "t=soon", "t=-1s", "t=99999999999999999999s"] {
            let setting = settings(wrong).next().unwrap().unwrap();
            assert!(setting.duration().unwrap_err().contains("`500ms`"), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_told_by_its_name() {
        for wrong in ["%", "a%4", "%zz", "a%é"] {
            let told = decoded("the user", wrong).unwrap_err();
            assert!(told.starts_with("the user has a `%`"), "{wrong}: {told}");
        }
        assert_eq!(decoded("the user", "%ff").unwrap_err(), "the user is not UTF-8");
        assert_eq!(decoded("the user", "%C3%a9%2f").unwrap(), "é/");
    }

    #[cfg(any(feature = "redis", feature = "cassandra", feature = "elasticsearch"))]
    #[test]
    fn every_part_is_found() {
        let parts = Parts::split("s://u:p:@@[::1]:1,b/c/d?e=f=g&&h").unwrap();
        assert_eq!((parts.scheme, parts.hosts, parts.path), ("s", "[::1]:1,b", Some("c/d")));
        assert_eq!(parts.login, Some(("u", Some("p:@"))));
        assert_eq!(parts.settings, "e=f=g&&h");
        let parts = Parts::split("s://u@a?b=/").unwrap();
        assert_eq!((parts.login, parts.hosts, parts.path), (Some(("u", None)), "a", None));
        assert!(Parts::split("s:a").is_err());
    }

    #[cfg(any(feature = "redis", feature = "cassandra", feature = "elasticsearch"))]
    #[test]
    fn a_password_is_not_taken_for_a_host() {
        for url in ["s://u:p/q@h/x", "s://u:p?q@h/x", "s://h/a@b", "s://h/a?b=c@d"] {
            let fault = Parts::split(url).map(drop).unwrap_err();
            assert!(fault.contains("%2F"), "{fault}");
        }
    }
}
