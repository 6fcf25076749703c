//! The changes of a `write_many`.

use std::collections::HashSet;

use bytes::Bytes;
use foldhash::fast::RandomState;

/// The changes without those that a later change of the same key overtakes (rule 5 of
/// [`Store`](super::Store)), in the order of the last ones.
pub(crate) fn last_of_each_key<'a>(
    changes: &'a [(&'a str, Option<Bytes>)],
) -> Vec<(&'a str, Option<&'a Bytes>)> {
    // From the end, so that each key is looked up once.
    let mut seen = HashSet::with_capacity_and_hasher(changes.len(), RandomState::default());
    let last = changes.iter().rev().filter(|(key, _)| seen.insert(*key));
    let mut last: Vec<_> = last.map(|(key, value)| (*key, value.as_ref())).collect();
    last.reverse();
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_key_the_last_change_stays() {
        let some = |value: &'static str| Some(Bytes::from(value));
        let changes =
            [("a", some("1")), ("b", None), ("a", None), ("c", some("2")), ("b", some("3"))];
        let (two, three) = (Bytes::from("2"), Bytes::from("3"));
        assert_eq!(
            last_of_each_key(&changes),
            [("a", None), ("c", Some(&two)), ("b", Some(&three))]
        );
    }
}
