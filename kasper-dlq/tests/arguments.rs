//! The program without a Kafka: its arguments, and what it says when no broker answers.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output, Stdio};

fn kasper_dlq(arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_kasper-dlq"));
    program.env_remove("KASPER_DLQ_BROKERS").stdin(Stdio::null());
    program.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn arguments_are_checked() {
    for (arguments, said) in [
        (&[][..], "Usage"),
        (&["list"], "<TOPIC>"),
        (&["show", "x"], "<POSITION>"),
        (&["replay", "x", "--rate", "0"], "messages a second"),
        (&["replay", "x", "--limit", "0"], "--limit"),
        (&["list", "x", "--since", "noon"], "write it as 2026-12-01T03:33:22Z"),
    ] {
        let output = kasper_dlq(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(said), "{arguments:?}: {}", text(&output.stderr));
    }
    for (arguments, said) in [
        (&["list", "x"][..], "KASPER_DLQ_BROKERS"),
        (&["list", "x", "--properties-file", "/no/such/file"], "/no/such/file"),
        (&["list", "x", "--property", "x"], "--property number 1 is not NAME=VALUE"),
        (&["show", "x", "7", "--brokers", "a:1"], "PARTITION:OFFSET"),
        (&["replay", "x", "--brokers", "a:1"], "--yes"),
    ] {
        let output = kasper_dlq(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(text(&output.stderr).contains(said), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn each_command_has_its_help() {
    for command in ["list", "show", "replay"] {
        let output = kasper_dlq(&[command, "--help"]);
        let help = text(&output.stdout);
        assert!(output.status.success() && help.contains("Examples:"), "{help}");
        assert!(help.contains("--brokers") && help.contains("KASPER_DLQ_BROKERS"), "{help}");
    }
    let output = kasper_dlq(&["--help"]);
    assert!(text(&output.stdout).contains("Exit codes: 0 done"));
}

#[test]
fn without_a_broker_the_reason_is_told_and_no_secret() {
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let output = kasper_dlq(&[
        "list",
        "x",
        "--brokers",
        &nobody,
        "--property",
        "sasl.password=secret-word",
        "--property",
        "client.id=me",
    ]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("no answer from {nobody}")), "{said}");
    assert!(said.to_lowercase().contains("refused") && !said.contains("secret-word"), "{said}");
}
