//! What to say where this build of librdkafka cannot do what is asked of it: a property, a mechanism, a
//! codec. librdkafka names its own build options; a reader needs the feature of this crate.

use super::ffi::{self, Code, Known};
use crate::message::undelivered::Fault;

/// What librdkafka has against a property's value, if anything.
pub(crate) fn of_property(name: &str, value: &str) -> Option<String> {
    ffi::try_property(name, value).err().map(|reason| property(name, &reason))
}

/// The text for a property that librdkafka refused for this reason. It does not hold the value of a
/// property that may be secret.
pub(super) fn property(name: &str, reason: &str) -> String {
    let hint = hint(reason);
    if is_secret(name) {
        // librdkafka's reason quotes the value.
        return match hint {
            Some(hint) => format!("librdkafka cannot use this property; {hint}"),
            None => "librdkafka refuses the value".into(),
        };
    }
    with_hint(reason, hint)
}

/// The text for properties that don't go together, for librdkafka's reason.
pub(super) fn client(reason: &str) -> String {
    with_hint(reason, hint(reason))
}

fn with_hint(reason: &str, hint: Option<String>) -> String {
    hint.map_or_else(|| reason.to_owned(), |hint| format!("{reason}; {hint}"))
}

/// What to enable, by what librdkafka says that its build lacks.
fn hint(reason: &str) -> Option<String> {
    let lacks = |parts: &[&str]| parts.iter().any(|part| reason.contains(part));
    if lacks(&["libcurl", "OIDC"]) {
        return Some(
            "this crate builds librdkafka without libcurl; supply tokens with `oauth_token`".into(),
        );
    }
    if lacks(&["libzstd"]) {
        return Some(enable("zstd"));
    }
    if lacks(&["libsasl2", "GSSAPI"]) {
        return Some(enable("gssapi"));
    }
    lacks(&["OpenSSL not available"]).then(|| enable("ssl"))
}

fn enable(feature: &str) -> String {
    format!("enable the feature `{feature}` of the crate `kasper`")
}

/// Why this build cannot log in at the brokers as the properties say, if it cannot.
///
/// librdkafka does not notice before the client is made, and then names only its own build options.
pub(crate) fn of_login(security_protocol: &str, mechanism: Option<&str>) -> Option<String> {
    let uses_sasl = security_protocol.trim_start().get(..5);
    if !uses_sasl.is_some_and(|prefix| prefix.eq_ignore_ascii_case("sasl_")) {
        return None;
    }
    let name = mechanism.unwrap_or("GSSAPI").trim_start();
    // Compared as librdkafka does: a mechanism in lower case is another one.
    let (built_in, feature) = match name {
        "GSSAPI" => ("sasl_gssapi", "gssapi"),
        "OAUTHBEARER" => ("sasl_oauthbearer", "ssl"),
        scram if scram.starts_with("SCRAM-SHA-") => ("sasl_scram", "ssl"),
        "PLAIN" => return None,
        other => {
            return Some(format!(
                "property `sasl.mechanism`: `{other}` is not a mechanism that librdkafka has; it has \
                 PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER and GSSAPI"
            ));
        }
    };
    if ffi::has_feature(built_in) {
        return None;
    }
    let hint = enable(feature);
    Some(match mechanism {
        Some(_) => format!("property `sasl.mechanism`: this build cannot do {name}; {hint}"),
        None => format!(
            "property `sasl.mechanism` is not set, and librdkafka's default is GSSAPI (Kerberos), which \
             this build cannot do; set it, or {hint}"
        ),
    })
}

/// What to say, and the codec, where a fetched batch of messages cannot be decompressed.
pub(super) fn codec(code: Code, text: &str) -> Option<(String, String)> {
    let number = text.split_once("(codec 0x")?.1.split_once(')')?.0;
    let codec = match number {
        "1" => "gzip".to_owned(),
        "2" => "snappy".to_owned(),
        "3" => "lz4".to_owned(),
        "4" => "zstd".to_owned(),
        other => format!("0x{other}"),
    };
    let missing = code.is(Known::RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED);
    let message = match (missing, number) {
        (true, "4") => format!(
            "the topic contains messages compressed with `zstd`, which this build cannot read: {}",
            enable("zstd")
        ),
        (true, "1" | "2" | "3") => format!(
            "the topic contains messages compressed with `{codec}`, which this build of librdkafka \
             cannot read"
        ),
        (true, _) => format!(
            "the topic contains messages compressed with a codec that librdkafka does not know ({codec})"
        ),
        (false, _) => format!(
            "a batch of messages compressed with `{codec}` cannot be decompressed, so it is damaged: {text}"
        ),
    };
    Some((message, codec))
}

/// Why the client did not take an outgoing message; `limit` is its `message.max.bytes`.
pub(super) fn not_taken(code: Code, limit: impl FnOnce() -> String) -> String {
    if code.is(Known::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
        return format!(
            "the message is too large for the client, which takes {} bytes with headers and framing: raise the \
             property `message.max.bytes` with `kafka`, and the topic's `max.message.bytes` if it is \
             lower, or send less in one message",
            limit()
        );
    }
    not_delivered(code, None)
}

/// Whether a message that the broker refused so, or that the client did not take, is itself at fault.
pub(super) fn fault(code: Code, index: usize, is_named: bool) -> Fault {
    match code.known() {
        // Named by the broker, or by the client, which knows the message's size.
        Some(
            Known::RD_KAFKA_RESP_ERR_INVALID_RECORD | Known::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        ) if is_named => Fault::Message(index),
        // The largest message of a request is only the likeliest.
        Some(
            Known::RD_KAFKA_RESP_ERR_INVALID_RECORD | Known::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        ) => Fault::Request,
        _ => Fault::None,
    }
}

/// Why an outgoing message was not delivered; `words` are the broker's own.
pub(super) fn not_delivered(code: Code, words: Option<&str>) -> String {
    use Known as K;
    if let Some(words) = words {
        return format!("the broker refused the message: {words}");
    }
    let text = code.text();
    match code.known() {
        Some(K::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) => "the broker refused a produce request as too large, and \
            this is its largest message: raise the topic's `max.message.bytes` (or the broker's \
            `message.max.bytes`), or set the property `batch.size` below it, or send less in one message"
            .into(),
        Some(K::RD_KAFKA_RESP_ERR__MSG_TIMED_OUT) => {
            "the message timed out: no broker acknowledged it within `delivery_timeout`".into()
        }
        Some(K::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => {
            format!("{text}: this user needs the right `Write` on the topic")
        }
        Some(K::RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE) => {
            format!("{text}: choose another one with the property `compression.codec`")
        }
        Some(K::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC | K::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => {
            format!("{text}: create the topic, or check the name that the processor sends to")
        }
        Some(K::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION) => {
            format!("{text}: the topic does not have the partition that the message names")
        }
        _ => text,
    }
}

/// Whether a property's value has to stay out of messages.
pub(super) fn is_secret(name: &str) -> bool {
    ["password", "secret", "key", "token", "credential", "jaas", "oauthbearer.config", ".pem"]
        .iter()
        .any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_implemented() -> Code {
        Known::RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED.into()
    }

    #[test]
    fn an_unreadable_codec_is_named_with_what_to_enable() {
        let text = "Decompression (codec 0x4) of message at 12 of 345 bytes failed: Local: Not implemented";
        let (message, codec) = codec(not_implemented(), text).unwrap();
        assert_eq!(codec, "zstd");
        assert!(message.contains("`zstd`") && message.contains("feature"), "{message}");
        let (message, codec) =
            super::codec(not_implemented(), &text.replace("0x4", "0x7")).unwrap();
        assert_eq!(codec, "0x7");
        assert!(!message.contains("feature"), "{message}");
        let damaged = Code::from(Known::RD_KAFKA_RESP_ERR__BAD_COMPRESSION);
        let (message, _) = super::codec(damaged, &text.replace("0x4", "0x1")).unwrap();
        assert!(message.contains("gzip") && message.contains("damaged"), "{message}");
        assert_eq!(super::codec(not_implemented(), "Unsupported MagicByte 7"), None);
    }

    /// Holds in every build: where the feature is on, nothing is refused.
    #[test]
    fn what_the_build_lacks_is_refused_with_the_feature() {
        for (name, value, feature, built_in) in [
            ("compression.codec", "zstd", "zstd", "zstd"),
            ("compression.type", "ZSTD", "zstd", "zstd"),
            ("topic.compression.type", "zstd", "zstd", "zstd"),
            ("security.protocol", "SSL", "ssl", "ssl"),
            ("security.protocol", "sasl_ssl", "ssl", "ssl"),
            ("ssl.ca.location", "/ca.pem", "ssl", "ssl"),
            ("ssl.key.password", "hunter2", "ssl", "ssl"),
        ] {
            let refusal = of_property(name, value);
            assert_eq!(refusal.is_none(), ffi::has_feature(built_in), "{name}: {refusal:?}");
            if let Some(text) = refusal {
                assert!(
                    text.contains(&format!("enable the feature `{feature}`")),
                    "{name}: {text}"
                );
                assert!(!text.contains("hunter2"), "{text}");
            }
        }
        for (mechanism, feature, built_in) in [
            (Some("GSSAPI"), "gssapi", "sasl_gssapi"),
            (None, "gssapi", "sasl_gssapi"),
            (Some("SCRAM-SHA-512"), "ssl", "sasl_scram"),
            (Some("OAUTHBEARER"), "ssl", "sasl_oauthbearer"),
        ] {
            let refusal = of_login("SASL_PLAINTEXT", mechanism);
            assert_eq!(refusal.is_none(), ffi::has_feature(built_in), "{mechanism:?}: {refusal:?}");
            if let Some(text) = refusal {
                assert!(text.contains(&format!("enable the feature `{feature}`")), "{text}");
            }
        }
        assert_eq!(of_login("sasl_plaintext", Some("PLAIN")), None);
        assert_eq!(of_login("plaintext", Some("GSSAPI")), None, "not used");
        assert!(of_login("sasl_plaintext", Some("plain")).unwrap().contains("`plain`"));
    }
}
