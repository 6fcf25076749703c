//! What a backend takes: the rules 7 and 8 of [`Store`](super::Store), checked before any I/O.

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

/// The longest keys and values of a backend, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) key_bytes: usize,
    pub(crate) value_bytes: usize,
}

impl Limits {
    /// Keys and values as long as memory allows.
    pub(crate) const NONE: Self = Self { key_bytes: usize::MAX, value_bytes: usize::MAX };

    /// # Errors
    /// A key that is empty or too long, named with the operation.
    pub(crate) fn check_keys<'a>(
        self,
        operation: &'static str,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Result<()> {
        keys.into_iter().enumerate().try_for_each(|(index, key)| {
            self.check_key(key)
                .map_err(|error| error.with("operation", operation).with("index", index))
        })
    }

    /// # Errors
    /// As [`check_keys`](Limits::check_keys), and a value that is too long.
    pub(crate) fn check_changes<'a>(
        self,
        operation: &'static str,
        changes: impl IntoIterator<Item = (&'a str, Option<&'a Bytes>)>,
    ) -> Result<()> {
        changes.into_iter().enumerate().try_for_each(|(index, (key, value))| {
            let checked = self.check_key(key).and_then(|()| self.check_value(key, value));
            checked.map_err(|error| error.with("operation", operation).with("index", index))
        })
    }

    fn check_key(self, key: &str) -> Result<()> {
        if key.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "a key is empty"));
        }
        if key.len() > self.key_bytes {
            let limit = self.key_bytes;
            let message =
                format!("a key of {} bytes is longer than the limit of {limit}", key.len());
            return Err(Error::new(ErrorKind::InvalidInput, message)
                .with("key", shortened(key))
                .with("limit", limit));
        }
        Ok(())
    }

    fn check_value(self, key: &str, value: Option<&Bytes>) -> Result<()> {
        let size = value.map_or(0, Bytes::len);
        if size <= self.value_bytes {
            return Ok(());
        }
        let limit = self.value_bytes;
        let message = format!("a value of {size} bytes is longer than the limit of {limit}");
        Err(Error::new(ErrorKind::InvalidInput, message)
            .with("key", shortened(key))
            .with("limit", limit))
    }
}

/// A key as it stands in an error: its beginning, if it is long.
pub(crate) fn shortened(key: &str) -> String {
    const LONGEST: usize = 100;
    match key.char_indices().nth(LONGEST) {
        None => key.to_owned(),
        Some((end, _)) => format!("{}…", &key[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: Limits = Limits { key_bytes: 4, value_bytes: 2 };

    #[test]
    fn what_is_over_a_limit_is_named_with_it() {
        let error = FEW.check_keys("get_many", ["abcd", "abcde"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!((error.get("key"), error.get("limit")), (Some("abcde"), Some("4")));
        assert_eq!((error.get("operation"), error.get("index")), (Some("get_many"), Some("1")));
        let value = Bytes::from("abc");
        let error =
            FEW.check_changes("write_many", [("a", None), ("b", Some(&value))]).unwrap_err();
        assert_eq!((error.get("key"), error.get("limit")), (Some("b"), Some("2")));
    }

    #[test]
    fn limits_count_bytes_and_not_characters() {
        FEW.check_keys("get_many", ["éé"]).unwrap();
        FEW.check_keys("get_many", ["ééé"]).unwrap_err();
    }

    #[test]
    fn a_long_key_is_shortened_at_a_character() {
        assert_eq!(shortened("é"), "é");
        assert_eq!(shortened(&"é".repeat(101)), format!("{}…", "é".repeat(100)));
    }
}
