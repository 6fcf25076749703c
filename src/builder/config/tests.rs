//! Settings from files and from the environment.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use super::super::check::check;
use super::*;
use crate::TopicProcessor;
use crate::broker::kafka::table_of_properties;

fn builder() -> Builder {
    TopicProcessor::builder("test", ["a"]).brokers("localhost:9092")
}

fn faults(builder: &Builder) -> String {
    check(&builder.options).map(|_| ()).unwrap_err().to_string()
}

/// A value that each setting takes.
fn good(name: &str) -> &'static str {
    match name {
        "brokers" | "admin" => "127.0.0.1:9092",
        "group_id" | "admin_token" => "correct-horse-battery",
        "consumer_protocol" | "admin_allow_remote" => "true",
        "start_from" | "out_of_range" => "latest",
        name if name.contains("bytes") => "1000000",
        "max_batch_messages" | "max_in_flight" => "7",
        _ => "7s",
    }
}

fn is_known(name: &str) -> bool {
    cfg!(feature = "admin") || !name.starts_with("admin")
}

#[test]
fn every_setting_is_taken_from_the_environment_and_from_a_file() {
    let known = SETTINGS.iter().map(|(name, _)| *name).filter(|name| is_known(name));
    let known: Vec<&str> = known.collect();
    let upper = |name: &&str| (format!("ORDERS_{}", name.to_uppercase()), good(name));
    let from_env = builder().config_from_vars("ORDERS", known.iter().map(upper));
    assert_eq!(from_env.options.faults, [""; 0]);
    let text = known.iter().map(|name| format!("\"{name}\": \"{}\"", good(name)));
    let text = format!("{{{}}}", text.collect::<Vec<_>>().join(","));
    let config: ProcessorConfig = serde_json::from_str(&text).unwrap();
    for Builder { options, .. } in [from_env, builder().config(&config)] {
        assert_eq!(options.brokers, "127.0.0.1:9092");
        assert_eq!(options.group_id.as_deref(), Some("correct-horse-battery"));
        assert_eq!(options.group_protocol, GroupProtocol::Consumer);
        assert_eq!([options.max_batch_messages, options.max_in_flight], [7; 2]);
        assert_eq!(options.max_batch_bytes, 1_000_000);
        let bytes = [options.max_in_flight_bytes, options.max_buffered_bytes];
        assert_eq!(bytes, [Some(1_000_000); 2]);
        let times = [
            options.max_batch_wait,
            options.commit_interval.unwrap(),
            options.target_latency.unwrap(),
            options.offset_refresh_interval,
            options.drain_deadline.unwrap(),
            options.commit_timeout.unwrap(),
            options.delivery_timeout.unwrap(),
            options.stall_timeout,
            options.connect_timeout,
            options.wait_for_topics,
            options.metrics_interval,
            options.lag_interval,
            options.topic_check_interval,
        ];
        assert_eq!(times, [Duration::from_secs(7); 13]);
        assert_eq!(options.start_from, StartFrom::Latest);
        assert_eq!(options.out_of_range, OutOfRange::Latest);
    }
}

#[test]
fn all_faults_are_named_with_those_of_the_code_and_without_values() {
    let not_text = OsString::from_vec(vec![b'1', 0xff]);
    let mut variables: Vec<(String, OsString)> = [
        ("KASPER_MAX_IN_FLIGHT", "hunter2"),
        ("KASPER_COMMIT_INTERVAL", "hunter2"),
        ("KASPER_LAG_INTERVAL", "10"),
        ("KASPER_START_FROM", "hunter2"),
        ("KASPER_CONSUMER_PROTOCOL", "hunter2"),
        ("KASPER_PASSWORD", "hunter2"),
        ("KASPER_brokers", "hunter2"),
        ("KASPER_", "hunter2"),
        ("KASPER_KAFKA_GROUP_ID", "hunter2"),
        ("KASPER_KAFKA_SASL_PASSWORD", "hunter2"),
        // Not ours.
        ("KASPERS_BROKERS", "hunter2"),
        ("KASPER", "hunter2"),
        ("OTHER_KASPER_BROKERS", "hunter2"),
    ]
    .map(|(name, value)| (name.to_owned(), value.into()))
    .to_vec();
    variables.push(("KASPER_MAX_BATCH_BYTES".into(), not_text));
    let builder = builder().max_batch_messages(0).config_from_vars("KASPER", variables);
    let text = faults(&builder);
    for fault in [
        "`KASPER_MAX_IN_FLIGHT` is a whole number",
        "`KASPER_COMMIT_INTERVAL` is a duration",
        "`KASPER_LAG_INTERVAL` is a duration",
        "`KASPER_START_FROM` is one of `earliest`, `latest`",
        "`KASPER_CONSUMER_PROTOCOL` is one of `true`, `false`",
        "no setting `KASPER_PASSWORD`",
        "no setting `KASPER_brokers`",
        "no setting `KASPER_` (",
        "`KASPER_MAX_BATCH_BYTES` is not UTF-8",
        "property `group.id` is set by the library",
        "`max_batch_messages` is 0",
    ] {
        assert!(text.contains(fault), "{fault} is missing in: {text}");
    }
    assert_eq!(text.matches(';').count(), 11, "{text}");
    assert!(!text.contains("hunter2") && !format!("{builder:?}").contains("hunter2"), "{text}");
    assert_eq!(builder.options.property("sasl.password"), Some("hunter2"));
}

/// All variables would be passed over.
#[test]
fn a_prefix_that_fits_no_variable_is_a_fault() {
    for prefix in ["", "KASPER_"] {
        let text = faults(&builder().config_from_vars(prefix, [("KASPER_BROKERS", "a:1")]));
        assert!(text.contains("such as `ORDERS`"), "{text}");
    }
}

#[test]
fn the_last_call_counts() {
    let options = |builder: Builder| (builder.options.max_in_flight, builder.options.brokers);
    let from_env = |builder: Builder| builder.config_from_vars("K", [("K_MAX_IN_FLIGHT", "3")]);
    assert_eq!(options(from_env(builder().max_in_flight(2))), (3, "localhost:9092".into()));
    assert_eq!(options(from_env(builder()).max_in_flight(2)), (2, "localhost:9092".into()));
    let property =
        builder().kafka("linger.ms", "1").config_from_vars("K", [("K_KAFKA_LINGER_MS", "2")]);
    assert_eq!(property.options.property("queue.buffering.max.ms"), Some("2"));
}

#[test]
fn a_file_has_numbers_nothing_and_properties_in_either_form() {
    let text = r#"{"max_in_flight": 3, "group_id": null, "consumer_protocol": false, "kafka":
        {"sasl": {"username": "u", "password": "hunter2"}, "linger.ms": 5, "enable.ssl.certificate.verification": true,
         "client.id": null}}"#;
    let config: ProcessorConfig = serde_json::from_str(text).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    let Builder { options, .. } = builder().config(&config);
    assert_eq!((options.max_in_flight, options.group_id.as_deref()), (3, None));
    let properties: BTreeSet<_> = options.properties.into_iter().collect();
    let wanted = [
        ("enable.ssl.certificate.verification", "true"),
        ("linger.ms", "5"),
        ("sasl.password", "hunter2"),
        ("sasl.username", "u"),
    ];
    assert_eq!(properties, wanted.map(|(name, value)| (name.into(), value.into())).into());
}

#[test]
fn a_file_with_faults_is_refused_with_all_of_them() {
    let text = r#"{"max_in_flight": -3, "lag_interval": 10, "kafka": "hunter2", "brokers": {"a": "hunter2"}, "colour": "hunter2"}"#;
    let error = serde_json::from_str::<ProcessorConfig>(text).unwrap_err().to_string();
    for fault in [
        "`max_in_flight` is a whole number",
        "`lag_interval` is a duration",
        "`kafka` is a map",
        "`brokers` is a map",
        "no setting `colour`",
    ] {
        assert!(error.contains(fault), "{fault} is missing in: {error}");
    }
    assert!(!error.contains("hunter2"), "{error}");
    let error = serde_json::from_str::<ProcessorConfig>("\"hunter2\"").unwrap_err().to_string();
    assert!(error.contains("is a map of its settings") && !error.contains("hunter2"), "{error}");
}

#[cfg(feature = "admin")]
#[test]
fn a_token_needs_an_address() {
    let fault = |builder: Builder| builder.admin.fault();
    let from_env = |name, value| {
        builder().config_from_vars("K", [("K_ADMIN_TOKEN", "correct-horse-battery"), (name, value)])
    };
    assert!(fault(from_env("K_BROKERS", "a")).unwrap().contains("no address"));
    assert_eq!(fault(from_env("K_ADMIN", "127.0.0.1:0")), None);
    assert_eq!(fault(from_env("K_BROKERS", "a").admin("127.0.0.1:0")), None);
    assert!(
        fault(from_env("K_ADMIN_TOKEN", "x").admin("127.0.0.1:0")).unwrap().contains("too short")
    );
}

/// An environment variable has `_` for each `.`, so a property with a `_` could not be set there.
#[test]
fn every_property_that_takes_text_has_a_variable() {
    for (name, _, description) in table_of_properties() {
        let is_code =
            ["see dedicated API", "rd_kafka_conf_set"].iter().any(|c| description.contains(c));
        let found = property_named(&name.replace('.', "_"));
        assert!(found == name || is_code, "{name}: {description}");
    }
}

#[test]
fn the_documentation_lists_every_setting() {
    let source = include_str!("../config.rs");
    let page = include_str!("../../../docs/operations.md");
    let (_, table) = source.split_once("/// | keys | values |").unwrap();
    let (table, _) = table.split_once("/// Deserializing").unwrap();
    for (name, _) in SETTINGS {
        assert!(table.contains(&format!("`{name}`")), "{name}");
        assert!(page.contains(&format!("`{name}`")), "{name} is missing in docs/operations.md");
    }
}
