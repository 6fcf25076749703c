//! A setting that is given as text, in the URL of a store or in a processor's configuration. All are read alike: a
//! duration has its unit (`10s`, `500ms`).

#[cfg(any(feature = "redis", feature = "cassandra", feature = "local", feature = "config"))]
use std::fmt::Display;
use std::time::Duration;

/// What is wrong with a setting, without its value, which may be a password.
pub(crate) type Wrong = String;

/// A name and its value.
pub(crate) struct Setting<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: String,
}

impl Setting<'_> {
    pub(crate) fn duration(&self) -> Result<Duration, Wrong> {
        let units = "is a duration with its unit, such as `10s`, `500ms` or `2h`";
        humantime::parse_duration(&self.value).map_err(|_| format!("`{}` {units}", self.name))
    }

    /// `what`: such as "a number from 0 to 15".
    #[cfg(any(feature = "redis", feature = "cassandra", feature = "local", feature = "config"))]
    pub(crate) fn parsed<T: std::str::FromStr>(&self, what: impl Display) -> Result<T, Wrong> {
        self.value.parse().map_err(|_| format!("`{}` is {what}", self.name))
    }

    /// The value that this word stands for; letter case does not count.
    #[cfg(any(feature = "cassandra", feature = "elasticsearch", feature = "config"))]
    pub(crate) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, Wrong> {
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(&self.value));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            format!("`{}` is one of {}", self.name, words.join(", "))
        })
    }

    /// For a name that is none of `known`.
    #[cfg(any(
        feature = "redis",
        feature = "cassandra",
        feature = "elasticsearch",
        feature = "local"
    ))]
    pub(crate) fn unknown(&self, known: &[&str]) -> Wrong {
        let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        format!("there is no setting `{}`, only {}", self.name, known.join(", "))
    }
}
