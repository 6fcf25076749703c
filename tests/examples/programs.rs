//! Each program to its end: it finds its own result right.

use std::process::{Command, Output};

use crate::program::example;

fn run(name: &str, options: &[&str]) -> Output {
    Command::new(example(name)).args(options).output().unwrap()
}

/// What it prints, where it ends well.
fn printed(name: &str, options: &[&str]) -> String {
    let output = run(name, options);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {options:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn word_count() {
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/word_count/count.rs");
    let printed = printed("word_count", &["--input", text, "--top", "3", "--partitions", "2"]);
    assert!(printed.contains("different\n"), "{printed}");
}

#[test]
fn join() {
    let printed = printed("join", &["--orders", "3000", "--batch", "100"]);
    assert!(printed.contains("all as expected (0 rows sent again)"), "{printed}");
}

#[test]
fn multitenant() {
    let printed = printed("multitenant", &["--events", "5000", "--tenants", "30"]);
    assert!(printed.contains("and 10 more tenants\n5000 events in "), "{printed}");
}

#[test]
fn enrich() {
    let printed = printed("enrich", &["--lines", "3000", "--partitions", "3"]);
    assert!(printed.contains("all as expected (0 sent again)"), "{printed}");
}

#[test]
fn own_store() {
    let printed = printed("own_store", &["--orders", "3000", "--customers", "7"]);
    assert!(printed.ends_with("the sums of 7 customers are as expected\n"), "{printed}");
}

#[test]
fn dead_letters() {
    let printed = printed("dead_letters", &["--payments", "3000", "--malformed", "100"]);
    assert!(printed.contains("all as expected: 3000 messages, 30 of them rejected"), "{printed}");
    assert!(printed.contains("__dlq.errors.topic"), "{printed}");
}

#[test]
fn a_wrong_url_is_told_before_anything_is_done() {
    for name in ["word_count", "join", "multitenant"] {
        let output = run(name, &["--store", "carrier-pigeon://coop"]);
        assert_eq!(output.status.code(), Some(1));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(errors, "error: configuration: there is no kind of store `carrier-pigeon`\n");
    }
}

#[test]
fn what_the_embedded_broker_would_lose_is_refused() {
    for (name, size) in [("join", "--orders"), ("enrich", "--lines")] {
        let output = run(name, &[size, "20001", "--partitions", "1"]);
        assert_eq!(output.status.code(), Some(1));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains("--brokers"), "{errors}");
    }
}
