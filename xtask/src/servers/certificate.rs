//! A key and its certificate: in a key store, made with Java's key tool, or as files for OpenSSL.
//!
//! The password stands here in the open: what it opens lives on 127.0.0.1 as long as a test run.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Launch;
use super::instance::last_lines;
use crate::interrupt;
use crate::process::program;

/// A key store cannot do without one.
pub(super) const STORE_PASSWORD: &str = "kasper-test";

/// Where clients find the certificate that they have to trust.
pub(super) fn certificate(run_dir: &Path) -> PathBuf {
    run_dir.join("ca.pem")
}

/// Where the server finds its key and certificate (PKCS12).
pub(super) fn key_store(run_dir: &Path) -> PathBuf {
    run_dir.join("server.p12")
}

/// Makes a key and its certificate, which is signed by itself, for 127.0.0.1 and no other name. With
/// `is_authority` it says that it may sign others: OpenSSL wants that, rustls takes no such one for a server.
pub(super) fn make(launch: &Launch, is_authority: bool) -> Result<()> {
    let (store, certificate) = (key_store(&launch.run_dir), certificate(&launch.run_dir));
    let mut make = Command::new("keytool");
    make.args(["-genkeypair", "-alias", "server", "-dname", "CN=kasper-test"])
        .args(["-keyalg", "EC", "-groupname", "secp256r1", "-validity", "3650"])
        .args(["-ext", "san=ip:127.0.0.1", "-ext", &format!("bc:critical=ca:{is_authority}")])
        .args(["-storetype", "PKCS12", "-storepass", STORE_PASSWORD, "-keystore"])
        .arg(&store);
    run(launch, quick(&mut make))?;
    let mut export = Command::new("keytool");
    export
        .args(["-exportcert", "-rfc", "-alias", "server", "-storepass", STORE_PASSWORD])
        .arg("-keystore")
        .arg(&store)
        .arg("-file")
        .arg(&certificate);
    run(launch, quick(&mut export))
}

/// Where a server without a key store finds its key.
pub(super) const KEY: &str = "key.pem";

/// Makes a key and its certificate, which is its own authority, for 127.0.0.1 and no other name, as files in
/// the run's directory: [`KEY`] and [`certificate`].
pub(super) fn make_pem(launch: &Launch) -> Result<()> {
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "3650", "-subj", "/CN=kasper-test"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        // Clients don't take an authority for a server.
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", KEY, "-out"])
        .arg(certificate(&launch.run_dir))
        .current_dir(&launch.run_dir);
    run(launch, &mut make)
}

/// The key tool, which is a part of every Java runtime, does little work: better to start soon than to
/// compile well.
fn quick(keytool: &mut Command) -> &mut Command {
    keytool.args(["-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC"])
}

fn run(launch: &Launch, command: &mut Command) -> Result<()> {
    let log = launch.run_dir.join("certificate.log");
    let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    let errors = output.try_clone().context("cannot share the log")?;
    let status = interrupt::run(command.stdout(output).stderr(errors))?;
    if !status.success() {
        let program = program(command);
        bail!("making its certificate: {program} ended with {status}:\n{}", last_lines(&log, 20));
    }
    Ok(())
}
