//! URLs of stores on servers: `scheme://user:password@host:port,host/path?name=value&…`. They name several
//! hosts, which is why no general parser reads them.

/// The parts of a URL, as they stand there: `%40` is still to be made an `@`.
pub(crate) struct Parts<'a> {
    pub(crate) scheme: &'a str,
    /// The user, who may be empty, and the password.
    pub(crate) login: Option<(&'a str, Option<&'a str>)>,
    /// Separated by commas.
    pub(crate) hosts: &'a str,
    /// What is behind the first `/`, if there is one.
    pub(crate) path: Option<&'a str>,
    settings: &'a str,
}

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

    /// Names and values behind the `?`. A name without a `=` has an empty value.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let settings = self.settings.split('&').filter(|setting| !setting.is_empty());
        settings.map(|setting| setting.split_once('=').unwrap_or((setting, "")))
    }
}

/// A server's address without the user and password that somebody may have put there.
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
    use super::*;

    #[test]
    fn every_part_is_found() {
        let parts = Parts::split("s://u:p:@@[::1]:1,b/c/d?e=f=g&&h").unwrap();
        assert_eq!((parts.scheme, parts.hosts, parts.path), ("s", "[::1]:1,b", Some("c/d")));
        assert_eq!(parts.login, Some(("u", Some("p:@"))));
        assert_eq!(parts.settings().collect::<Vec<_>>(), [("e", "f=g"), ("h", "")]);
        let parts = Parts::split("s://u@a?b=/").unwrap();
        assert_eq!((parts.login, parts.hosts, parts.path), (Some(("u", None)), "a", None));
        assert!(Parts::split("s:a").is_err());
    }

    #[test]
    fn a_password_is_not_taken_for_a_host() {
        for url in ["s://u:p/q@h/x", "s://u:p?q@h/x", "s://h/a@b", "s://h/a?b=c@d"] {
            let fault = Parts::split(url).map(drop).unwrap_err();
            assert!(fault.contains("%2F"), "{fault}");
        }
    }
}
