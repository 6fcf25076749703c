//! What must be on the machine: programs that servers need, headers that librdkafka is compiled with.
//! And what to say if they are missing.

use std::env;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// A program that must be on the `PATH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// A Java runtime of at least this version.
    Java(u32),
    /// Maven, which fetches jars.
    Maven,
    /// A Redis server of at least this version, with its command line client.
    Redis(u32),
    /// OpenSSL's program, which makes certificates.
    OpenSsl,
}

/// Fails with one line if a tool is missing or too old. `otherwise` says how to do without.
pub(crate) fn require(tools: &[Tool], otherwise: &str) -> Result<()> {
    let missing: Vec<String> = tools.iter().filter_map(|tool| tool.problem()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("{}. {otherwise}", missing.join("; "));
}

/// The headers for librdkafka's features `ssl` and `gssapi`, and where Debian has them.
const HEADERS: &[(&str, &str, &str)] = &[
    ("openssl/ssl.h", "OpenSSL's headers", "libssl-dev"),
    ("sasl/sasl.h", "Cyrus SASL's headers", "libsasl2-dev"),
];

/// Fails with one line if the C compiler does not find the headers of librdkafka's features.
/// `otherwise` says how to do without.
pub(crate) fn require_headers(otherwise: &str) -> Result<()> {
    let missing: Vec<String> = HEADERS
        .iter()
        .filter(|(header, ..)| !has_header(header))
        .map(|(header, what, package)| {
            format!(
                "{what} are missing ({header}): install them (Debian: `apt-get install {package}`)"
            )
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("{}. {otherwise}", missing.join("; "));
}

fn has_header(header: &str) -> bool {
    // Told to look elsewhere, OpenSSL's build script does: it will say what it does not find.
    if header.starts_with("openssl/") && env::var_os("OPENSSL_DIR").is_some() {
        return true;
    }
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut words = compiler.split_whitespace();
    let Some(program) = words.next() else { return false };
    let flags = output("pkg-config", &["--cflags", "openssl"]).unwrap_or_default();
    let found = Command::new(program)
        .args(words)
        .args(flags.split_whitespace())
        .args(["-include", header, "-E", "-x", "c", "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    found.is_ok_and(|status| status.success())
}

impl Tool {
    fn problem(self) -> Option<String> {
        match self {
            Self::Java(least) => match output("java", &["-version"]) {
                None => Some(format!(
                    "`java` is missing: install a Java runtime {least} or later ({JAVA_INSTALL})"
                )),
                Some(text) => match java_version(&text) {
                    Some(found) if found < least => Some(format!(
                        "`java` is version {found}: version {least} or later is needed ({JAVA_INSTALL})"
                    )),
                    // A version written in a way we do not know: let the server say whether it can
                    // run.
                    _ => None,
                },
            },
            Self::Redis(least) => match output("redis-server", &["--version"]) {
                None => Some(format!(
                    "`redis-server` is missing: install Redis {least} or later ({REDIS_INSTALL})"
                )),
                Some(text) => match redis_version(&text) {
                    Some(found) if found < least => Some(format!(
                        "`redis-server` is version {found}: version {least} or later is needed ({REDIS_INSTALL})"
                    )),
                    _ => None,
                },
            },
            Self::OpenSsl => output("openssl", &["version"]).is_none().then(|| {
                "`openssl` is missing: install OpenSSL (Debian: `apt-get install openssl`)"
                    .to_owned()
            }),
            Self::Maven => output("mvn", &["--version"]).is_none().then(|| {
                "`mvn` is missing: install Maven (Debian: `apt-get install maven`)".to_owned()
            }),
        }
    }
}

const JAVA_INSTALL: &str = "Debian: `apt-get install default-jre-headless`";

const REDIS_INSTALL: &str = "Debian: `apt-get install redis-server`";

/// What the program prints to both outputs, `None` if it cannot be run.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| {
        let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stdout));
        text
    })
}

/// The major version in `openjdk version "17.0.15" 2025-04-15`; Java 8 called itself 1.8.
fn java_version(text: &str) -> Option<u32> {
    let version = text.split('"').nth(1)?.trim_start_matches("1.");
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The major version in `Redis server v=7.0.15 sha=00000000:0 malloc=…`.
fn redis_version(text: &str) -> Option<u32> {
    text.split_once("v=")?.1.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_versions_are_read() {
        assert_eq!(redis_version("Redis server v=7.0.15 sha=00000000:0 malloc=x bits=64"), Some(7));
        assert_eq!(redis_version("who knows"), None);
    }

    #[test]
    fn java_versions_are_read() {
        assert_eq!(java_version("openjdk version \"17.0.15\" 2025-04-15\n"), Some(17));
        assert_eq!(java_version("java version \"1.8.0_392\""), Some(8));
        assert_eq!(java_version("openjdk version \"21-ea\""), Some(21));
        assert_eq!(java_version("who knows"), None);
    }

    #[test]
    fn a_header_is_found_or_not() {
        assert!(has_header("stdio.h"));
        assert!(!has_header("no/such/header.h"));
    }

    #[test]
    fn a_missing_program_is_one_line() {
        assert_eq!(output("no-such-program-anywhere", &["--version"]), None);
    }
}
