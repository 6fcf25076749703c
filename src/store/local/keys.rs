//! Keys and changes on their way to the thread that reads or writes them.
//!
//! They are made by the caller and given back by that thread, so they are few pieces of memory: one for all
//! keys that are read, and changes as the engine keeps them, so that it copies nothing again.

use bytes::Bytes;
use fjall::{UserKey, UserValue};

/// A change of a key as it stands in the database. The value is a copy: one that shared its memory with
/// a whole message, or a batch of them, would keep that for as long as the engine has it in memory.
pub(super) type Change = (UserKey, Option<UserValue>);

pub(super) fn change(prefix: &str, key: &str, value: Option<&Bytes>) -> Change {
    let key = [prefix.as_bytes(), key.as_bytes()].concat();
    (UserKey::from(key), value.map(|value| UserValue::from(&value[..])))
}

/// Keys as they stand in the database, one behind the other.
pub(super) struct Keys {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Keys {
    pub(super) fn with_capacity(count: usize) -> Self {
        Self { bytes: Vec::new(), ends: Vec::with_capacity(count) }
    }

    pub(super) fn push(&mut self, prefix: &str, key: &str) {
        self.bytes.extend_from_slice(prefix.as_bytes());
        self.bytes.extend_from_slice(key.as_bytes());
        self.ends.push(self.bytes.len());
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let mut begin = 0;
        self.ends.iter().map(move |end| {
            let key = &self.bytes[begin..*end];
            begin = *end;
            key
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_as_they_went_in() {
        let mut keys = Keys::with_capacity(3);
        for (prefix, key) in [("s/a/", "x"), ("", "yy"), ("s/b/", "é")] {
            keys.push(prefix, key);
        }
        let expected: [&[u8]; 3] = [b"s/a/x", b"yy", "s/b/é".as_bytes()];
        assert_eq!(keys.iter().collect::<Vec<_>>(), expected);
    }
}
