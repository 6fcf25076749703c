//! The list of brokers: what is wrong with an entry is said before anything is connected.
//!
//! librdkafka says too little. It reads a port as C's `atoi` and 16 bits do: `host:99999` becomes port
//! 34463 and `host:abc` port 0, and it ignores an entry that it cannot read together with all entries
//! behind it. Both look like an outage.

/// Splits the list at commas and checks each entry: `host`, `host:port`, `[IPv6]:port`, each with an
/// optional protocol in front. Without a port it is 9092, as in librdkafka.
///
/// Spaces around entries are dropped, and entries that are empty, as librdkafka and Java's client do: lists
/// made by templates end with a comma.
///
/// # Errors
/// One text per faulty entry, which names it.
pub(super) fn parse(list: &str, security_protocol: Option<&str>) -> Result<String, Vec<String>> {
    if list.contains('@') {
        // Nothing is quoted: what stands before the `@` may be a password, with any character in it.
        return Err(vec![
            "`brokers` contains an `@`: it takes no user and no password; use the properties `sasl.username` and \
             `sasl.password`"
                .into(),
        ]);
    }
    let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let entries: Vec<&str> = entries.collect();
    if entries.is_empty() {
        return Err(vec!["`brokers` is not set (host:port, several separated by commas)".into()]);
    }
    let faults = entries.iter().filter_map(|entry| {
        let fault = check(entry, security_protocol).err()?;
        Some(format!("`brokers`: in the entry `{entry}`, {fault}"))
    });
    let faults: Vec<String> = faults.collect();
    if faults.is_empty() { Ok(entries.join(",")) } else { Err(faults) }
}

fn check(entry: &str, security_protocol: Option<&str>) -> Result<(), String> {
    let address = match entry.split_once("://") {
        None => entry,
        Some((protocol, rest)) => {
            check_protocol(protocol, security_protocol)?;
            // librdkafka ignores a path, but only behind a protocol.
            rest.split_once('/').map_or(rest, |(address, _)| address)
        }
    };
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("a `]` is missing")?;
            check_ipv6(host)?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => {
                    return Err(format!("`{rest}` follows the address; a port begins with `:`"));
                }
            }
        }
        None => match address.split_once(':') {
            None => (address, None),
            Some((_, rest)) if rest.contains(':') => {
                return Err(
                    "there is more than one `:`; write an IPv6 address in brackets, such as \
                            `[::1]:9092`"
                        .into(),
                );
            }
            Some((host, port)) => (host, Some(port)),
        },
    };
    if host.is_empty() {
        return Err("the host is empty".into());
    }
    let illegal = |c: &char| c.is_whitespace() || c.is_control() || "/\\@[]?#\"'<>{}$".contains(*c);
    if let Some(illegal) = host.chars().find(illegal) {
        return Err(format!("the host contains {illegal:?}"));
    }
    port.map_or(Ok(()), check_port)
}

fn check_port(port: &str) -> Result<(), String> {
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(1..) if is_number => Ok(()),
        _ => Err(format!("`{port}` is not a port (1 to 65535)")),
    }
}

fn check_ipv6(host: &str) -> Result<(), String> {
    // Behind a `%` comes the interface of a link-local address.
    let address = host.split_once('%').map_or(host, |(address, _)| address);
    let parsed = address.parse::<std::net::Ipv6Addr>();
    parsed.map(|_| ()).map_err(|_| format!("`{host}` is not an IPv6 address"))
}

fn check_protocol(protocol: &str, security_protocol: Option<&str>) -> Result<(), String> {
    const KNOWN: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
    let is = |name: &str| name.eq_ignore_ascii_case(protocol);
    if !KNOWN.iter().any(|known| is(known)) {
        return Err(format!(
            "`{protocol}` is not a protocol of Kafka; write host:port, and choose the protocol with the \
             property `security.protocol`"
        ));
    }
    let chosen = security_protocol.unwrap_or("plaintext").trim_start();
    match is(chosen) {
        true => Ok(()),
        false => Err(format!(
            "the protocol `{protocol}` differs from the property `security.protocol`, which is `{chosen}`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault(list: &str) -> String {
        parse(list, None).unwrap_err().join("; ")
    }

    #[test]
    fn each_faulty_entry_is_named_with_its_fault() {
        for (entry, why) in [
            ("host:99999", "`99999` is not a port"),
            ("host:65536", "`65536` is not a port"),
            ("host:0", "`0` is not a port"),
            ("host:-1", "`-1` is not a port"),
            ("host:+1", "`+1` is not a port"),
            ("host:abc", "`abc` is not a port"),
            ("host:", "`` is not a port"),
            ("host:9092/kafka", "`9092/kafka` is not a port"),
            ("host: 9092", "` 9092` is not a port"),
            (":9092", "the host is empty"),
            ("kafka://host:9092", "`kafka` is not a protocol of Kafka"),
            ("://host:9092", "`` is not a protocol of Kafka"),
            ("SSL://host:9092", "differs from the property `security.protocol`"),
            ("one two:9092", "the host contains ' '"),
            ("${BROKER}:9092", "the host contains '$'"),
            ("::1", "more than one `:`"),
            ("::1:9092", "more than one `:`"),
            ("[::1:9092", "a `]` is missing"),
            ("[::1]9092", "`9092` follows the address"),
            ("[host]:9092", "`host` is not an IPv6 address"),
        ] {
            let text = fault(&format!("good:9092,{entry},localhost"));
            assert!(text.contains(&format!("`{entry}`")) && text.contains(why), "{entry}: {text}");
            assert!(!text.contains("good:9092"), "{text}");
        }
        let text = fault("host:0,good:1,other:x");
        assert!(text.contains("`host:0`") && text.contains("`other:x`"), "{text}");
        assert!(fault(" , ,").contains("`brokers` is not set"));
        for secret in [
            "user:hunter2@host:9092",
            "user:hunter2@host",
            "SASL_SSL://user:hunter2/x@host",
            "user:hunter2,x@h",
        ] {
            let text = fault(secret);
            assert!(!text.contains("hunter2") && text.contains("sasl.password"), "{text}");
        }
    }

    #[test]
    fn spaces_and_empty_entries_are_dropped() {
        assert_eq!(parse(" a:1 ,, b,\tc:3\n,", None).unwrap(), "a:1,b,c:3");
    }

    proptest! {
        #[test]
        fn valid_entries_are_never_refused(
            entries in prop::collection::vec(
                (
                    prop_oneof![
                        "[a-z0-9]([a-z0-9_.-]{0,30}[a-z0-9])?",
                        any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()),
                        any::<std::net::Ipv6Addr>().prop_map(|address| format!("[{address}]")),
                    ],
                    prop::option::of(1_u16..),
                    prop_oneof![Just(""), Just("SASL_SSL://"), Just("sasl_ssl://")],
                ),
                1..5,
            ),
        ) {
            let entries = entries.iter().map(|(host, port, protocol)| {
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                format!("{protocol}{host}{port}")
            });
            let list = entries.collect::<Vec<_>>().join(",");
            prop_assert_eq!(parse(&list, Some("Sasl_Ssl")), Ok(list));
        }

        #[test]
        fn nothing_panics_and_no_port_out_of_range_passes(list in "[a:,\\[\\]/0-9 @.%é]{0,24}") {
            if let Ok(list) = parse(&list, None) {
                for entry in list.split(',') {
                    let port = entry.rsplit_once(':').filter(|_| !entry.ends_with(']'));
                    if let Some((_, port)) = port {
                        prop_assert!((1..=65535).contains(&port.parse::<u32>().unwrap()), "{}", list);
                    }
                }
            }
        }
    }
}
