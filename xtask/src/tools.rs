//! What must be on the machine: programs that tests and their servers need, headers that librdkafka is compiled with.
//! This is the one list of it, with Debian's packages.

use std::collections::BTreeSet;
use std::env;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// What must be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// A Java runtime of at least this version, for servers.
    Java(u32),
    /// Java's compiler.
    Javac,
    /// Go's compiler, which fetches a newer one if it is too old.
    Go,
    /// Maven, which fetches servers.
    Maven,
    /// A Redis server of at least this version, with its command line client.
    Redis(u32),
    /// OpenSSL's program, which makes certificates.
    OpenSsl,
    /// A browser for the test of the admin server's page.
    Chromium,
    /// What drives the browser.
    ChromeDriver,
    /// What librdkafka's build asks for, though it compiles only C.
    Cxx,
    Make,
    /// Tells librdkafka's build where OpenSSL is.
    PkgConfig,
    /// Counts instructions for `cargo xtask bench check`.
    Valgrind,
    /// A header for librdkafka's features `ssl`, `gssapi` and `libz`.
    Header(&'static str),
}

/// What librdkafka is compiled with, besides the C compiler that Rust links with.
pub(crate) const COMPILE: &[Tool] = &[Tool::Cxx, Tool::Make];

/// What the tests of the admin server's page need.
pub(crate) const BROWSER: &[Tool] = &[Tool::Chromium, Tool::ChromeDriver];

/// What librdkafka with `ssl` and `gssapi` is compiled with.
pub(crate) const SECURITY: &[Tool] = &[
    Tool::PkgConfig,
    Tool::Header("openssl/ssl.h"),
    Tool::Header("sasl/sasl.h"),
    Tool::Header("zlib.h"),
];

/// Fails with one line if a tool is missing or too old. `otherwise` says how to do without.
pub(crate) fn require(tools: &[Tool], otherwise: &str) -> Result<()> {
    let missing = missing(tools);
    if missing.is_empty() {
        return Ok(());
    }
    bail!("{}\n{otherwise}", told(&missing));
}

/// What is missing or too old, in one line.
pub(crate) fn problem(tools: &[Tool]) -> Option<String> {
    let missing = missing(tools);
    let problems: Vec<&str> = missing.iter().map(|(_, problem)| problem.as_str()).collect();
    let packages = packages(&missing).join(" ");
    (!missing.is_empty()).then(|| format!("{} (on Debian: {packages})", problems.join("; ")))
}

/// Installs what is missing if this is root on Debian. Otherwise fails, with everything that is missing and one
/// command to copy.
pub(crate) fn install(tools: &[Tool]) -> Result<()> {
    let missing_now = missing(tools);
    if missing_now.is_empty() {
        return Ok(());
    }
    if !rustix::process::getuid().is_root() || output("apt-get", &["--version"]).is_none() {
        bail!("{}", told(&missing_now));
    }
    let packages = packages(&missing_now);
    println!("installing {}", packages.join(" "));
    apt_get(&["update"])?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(packages);
    apt_get(&install)?;
    let still = missing(tools);
    if still.is_empty() {
        return Ok(());
    }
    bail!("installed, but still: {}", told(&still));
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .arg("-qq")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null());
    let status = crate::interrupt::run(&mut command)?;
    match status.success() {
        true => Ok(()),
        false => bail!("`apt-get {}` failed ({status})", arguments.join(" ")),
    }
}

/// Each problem once, with the tool that has it.
fn missing(tools: &[Tool]) -> Vec<(Tool, String)> {
    let mut missing: Vec<(Tool, String)> = Vec::new();
    for tool in tools {
        if missing.iter().all(|(other, _)| other != tool)
            && let Some(problem) = tool.problem()
        {
            missing.push((*tool, problem));
        }
    }
    missing
}

fn packages(missing: &[(Tool, String)]) -> Vec<&'static str> {
    let packages: BTreeSet<&str> = missing.iter().map(|(tool, _)| tool.package()).collect();
    packages.into_iter().collect()
}

fn told(missing: &[(Tool, String)]) -> String {
    let problems: Vec<&str> = missing.iter().map(|(_, problem)| problem.as_str()).collect();
    format!(
        "{}. On Debian or Ubuntu:\n  sudo apt-get install --no-install-recommends {}",
        problems.join("; "),
        packages(missing).join(" ")
    )
}

impl Tool {
    /// The package that has it on Debian.
    fn package(self) -> &'static str {
        match self {
            Self::Java(_) => "default-jre-headless",
            Self::Javac => "default-jdk-headless",
            Self::Go => "golang-go",
            Self::Maven => "maven",
            Self::Redis(_) => "redis-server",
            Self::OpenSsl => "openssl",
            Self::Chromium => "chromium",
            Self::ChromeDriver => "chromium-driver",
            Self::Cxx => "g++",
            Self::Make => "make",
            Self::PkgConfig => "pkg-config",
            Self::Valgrind => "valgrind",
            Self::Header("sasl/sasl.h") => "libsasl2-dev",
            Self::Header("zlib.h") => "zlib1g-dev",
            Self::Header(_) => "libssl-dev",
        }
    }

    fn problem(self) -> Option<String> {
        match self {
            Self::Java(least) => match output("java", &["-version"]) {
                None => Some(format!("`java` is missing (version {least} or later)")),
                Some(text) => too_old("java", java_version(&text), least),
            },
            Self::Redis(least) => match output("redis-server", &["--version"]) {
                None => Some(format!("`redis-server` is missing (version {least} or later)")),
                Some(text) => too_old("redis-server", redis_version(&text), least),
            },
            Self::OpenSsl => absent("openssl", "version"),
            Self::Javac => absent("javac", "-version"),
            Self::Go => absent("go", "version"),
            Self::Maven => absent("mvn", "--version"),
            Self::Chromium => absent("chromium", "--version"),
            Self::ChromeDriver => absent("chromedriver", "--version"),
            Self::Cxx => {
                let given = env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
                absent(&given, "--version")
            }
            Self::Make => absent("make", "--version"),
            Self::PkgConfig => absent("pkg-config", "--version"),
            Self::Valgrind => absent("valgrind", "--version"),
            Self::Header(name) => {
                (!has_header(name)).then(|| format!("the C header `{name}` is missing"))
            }
        }
    }
}

fn absent(program: &str, argument: &str) -> Option<String> {
    output(program, &[argument]).is_none().then(|| format!("`{program}` is missing"))
}

/// A version written in a way we do not know is none: let the program say whether it can run.
fn too_old(program: &str, found: Option<u32>, least: u32) -> Option<String> {
    let found = found.filter(|found| *found < least)?;
    Some(format!("`{program}` is version {found}: version {least} or later is needed"))
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
    fn an_old_version_is_told_and_an_unknown_one_is_tried() {
        let old = too_old("java", Some(11), 17).expect("old");
        assert_eq!(old, "`java` is version 11: version 17 or later is needed");
        assert_eq!(too_old("java", Some(17), 17), None);
        assert_eq!(too_old("java", None, 17), None);
    }

    #[test]
    fn a_header_is_found_or_not() {
        assert!(has_header("stdio.h"));
        assert!(!has_header("no/such/header.h"));
    }

    #[test]
    fn a_missing_program_is_told_with_its_name() {
        let problem = absent("no-such-program-anywhere", "--version");
        assert_eq!(problem.as_deref(), Some("`no-such-program-anywhere` is missing"));
    }

    #[test]
    fn all_that_is_missing_is_one_command_and_each_package_stands_once() {
        let header = Tool::Header("no/such/header.h");
        let missing = missing(&[header, Tool::Header("stdio.h"), header]);
        assert_eq!(missing.len(), 1);
        let both = [missing, vec![(Tool::Maven, "`mvn` is missing".to_owned())]].concat();
        assert_eq!(
            told(&both),
            "the C header `no/such/header.h` is missing; `mvn` is missing. On Debian or Ubuntu:\n  \
             sudo apt-get install --no-install-recommends libssl-dev maven"
        );
        let problem = problem(&[header]).expect("missing");
        assert_eq!(problem, "the C header `no/such/header.h` is missing (on Debian: libssl-dev)");
        let refused = require(&[header], "Or leave it out").expect_err("missing").to_string();
        assert!(refused.ends_with("\nOr leave it out"), "{refused}");
    }
}
