//! The consumer group that remembers how far a replay is.

use crate::filter::FilterArgs;

/// The default name: the same for the same topic, filters and target, so that a command continues where it was
/// stopped, and another command does not take its place.
pub(crate) fn name(topic: &str, filter: &FilterArgs, to: Option<&str>) -> String {
    let mut what = filter.canonical();
    if let Some(to) = to {
        what.push_str(&format!(" to={to:?}"));
    }
    match what.is_empty() {
        true => format!("kasper-dlq.{topic}"),
        false => format!("kasper-dlq.{topic}.{:016x}", fnv1a(what.as_bytes())),
    }
}

/// A hash that stays the same from version to version.
fn fnv1a(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests::filter;

    #[test]
    fn a_command_has_the_same_group_each_time_and_another_one_another() {
        let none = filter(&[]);
        assert_eq!(name("dlq", &none, None), "kasper-dlq.dlq");
        let kind = filter(&["--kind", "a"]);
        let names = [
            name("dlq", &none, None),
            name("dlq2", &none, None),
            name("dlq", &kind, None),
            name("dlq", &kind, Some("b")),
            name("dlq", &none, Some("b")),
            name("dlq", &none, Some("c")),
            name("dlq", &filter(&["--processor", "a"]), None),
        ];
        for (index, one) in names.iter().enumerate() {
            assert!(!names[..index].contains(one), "{names:?}");
        }
        assert_eq!(name("dlq", &filter(&["--kind", "a"]), None), names[2]);
    }

    /// A new version that names the group otherwise would replay everything a second time.
    #[test]
    fn names_do_not_change() {
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        let kind = filter(&["--kind", "process failed"]);
        assert_eq!(kind.canonical(), r#"kind="process failed""#);
        let expected = format!("kasper-dlq.dlq.{:016x}", fnv1a(br#"kind="process failed" to="x""#));
        assert_eq!(name("dlq", &kind, Some("x")), expected);
    }
}
