//! The programs that are not Rust: how each is called, and what it is made of.
//!
//! `cargo xtask bench peers` compiles them and says where they are. Each takes `JOB NAME=VALUE…` and prints one
//! line of JSON, as our own child processes do; with `versions` it prints what it is made of.

use std::env;
use std::ffi::OsString;
use std::process::{Command, Stdio};

use crate::case::Who;
use crate::common::BoxError;

/// The paths of the programs in Go.
const FRANZ_GO: &str = "KASPER_BENCH_FRANZ_GO";
const GOKA: &str = "KASPER_BENCH_GOKA";
/// The Java program's class path.
const KAFKA_STREAMS: &str = "KASPER_BENCH_KAFKA_STREAMS";

/// The heap's limit is ours: without one the JVM lets it grow to a fourth of the machine's memory before it
/// collects, and the peak would say nothing. Found by trying: more gives no throughput. Java's guide to garbage
/// collection names the parallel collector for throughput; it takes less CPU here than the default, G1.
const JAVA: &[&str] =
    &["-Xmx512m", "-XX:+UseParallelGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"];

fn variable(who: Who) -> Option<&'static str> {
    match who {
        Who::Ours | Who::Raw => None,
        Who::FranzGo => Some(FRANZ_GO),
        Who::KafkaStreams => Some(KAFKA_STREAMS),
        Who::Goka => Some(GOKA),
    }
}

fn place(who: Who) -> Option<OsString> {
    env::var_os(variable(who)?).filter(|place| !place.is_empty())
}

/// Why it does not take part.
pub(crate) fn missing(who: Who) -> Option<String> {
    let variable = variable(who)?;
    place(who).is_none().then(|| format!("{who} is left out: {variable} is not set"))
}

/// The program, to which the caller adds its arguments.
pub(crate) fn command(who: Who) -> Option<Command> {
    let place = place(who)?;
    let mut command = match who {
        Who::Ours | Who::Raw => return None,
        Who::FranzGo | Who::Goka => Command::new(place),
        Who::KafkaStreams => {
            let mut java = Command::new("java");
            java.args(JAVA).arg("-cp").arg(place).arg("Peer");
            java
        }
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Some(command)
}

/// In its own words.
pub(crate) fn versions(who: Who) -> Result<Option<String>, BoxError> {
    let Some(mut command) = command(who) else { return Ok(None) };
    let output = command.arg("versions").output()?;
    if !output.status.success() {
        return Err(format!("{who}: {}", output.status).into());
    }
    Ok(Some(String::from_utf8(output.stdout)?.trim().to_owned()))
}
