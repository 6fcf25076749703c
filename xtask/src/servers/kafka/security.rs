//! The listeners that want to know with whom they speak, and the broker's certificate.
//!
//! On top of the unencrypted listener: `SSL`, and `SASL_SSL` for user and password and for tokens.
//! Secrets stand here in the open: they open a broker on 127.0.0.1 that lives as long as a test run.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::super::Launch;
use super::super::instance::last_lines;
use crate::interrupt;

/// The user, and the password for both PLAIN and SCRAM. The tests know them too.
const USER: &str = "alice";
const PASSWORD: &str = "open-sesame";

/// A key store cannot do without one.
const STORE_PASSWORD: &str = "kasper-test";

/// What `kafka.tools.StorageTool format` has to write for SCRAM: the only mechanism whose users are
/// in the cluster's metadata.
pub(super) fn scram_user() -> String {
    format!("SCRAM-SHA-256=[name={USER},password={PASSWORD}]")
}

/// Where clients find the certificate that they have to trust.
pub(super) fn certificate(run_dir: &Path) -> PathBuf {
    run_dir.join("ca.pem")
}

fn key_store(run_dir: &Path) -> PathBuf {
    run_dir.join("broker.p12")
}

/// The part of `server.properties` about these listeners.
pub(super) fn properties(run_dir: &Path) -> String {
    const LOGIN: &str = "org.apache.kafka.common.security";
    format!(
        "\
ssl.keystore.type=PKCS12
ssl.keystore.location={store}
ssl.keystore.password={STORE_PASSWORD}
listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,OAUTHBEARER
listener.name.sasl_ssl.plain.sasl.jaas.config={LOGIN}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={LOGIN}.scram.ScramLoginModule required;
# Any token is believed that is well-formed and has not ended. Without the second line a connection outlives
# its token; with it, it is closed then unless the client authenticates again.
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config={LOGIN}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";
listener.name.sasl_ssl.oauthbearer.connections.max.reauth.ms=3600000
",
        store = key_store(run_dir).display()
    )
}

/// Makes a key and its certificate, which is its own authority, for 127.0.0.1 and no other name.
pub(super) fn make_certificate(launch: &Launch) -> Result<()> {
    let (store, certificate) = (key_store(&launch.run_dir), certificate(&launch.run_dir));
    let mut make = Command::new("keytool");
    make.args(["-genkeypair", "-alias", "broker", "-dname", "CN=kasper-test"])
        .args(["-keyalg", "EC", "-groupname", "secp256r1", "-validity", "3650"])
        .args(["-ext", "san=ip:127.0.0.1", "-ext", "bc:critical=ca:true"])
        .args(["-storetype", "PKCS12", "-storepass", STORE_PASSWORD, "-keystore"])
        .arg(&store);
    keytool(launch, &mut make)?;
    let mut export = Command::new("keytool");
    export
        .args(["-exportcert", "-rfc", "-alias", "broker", "-storepass", STORE_PASSWORD])
        .arg("-keystore")
        .arg(&store)
        .arg("-file")
        .arg(&certificate);
    keytool(launch, &mut export)
}

/// Runs Java's key tool, which is a part of every Java runtime.
fn keytool(launch: &Launch, command: &mut Command) -> Result<()> {
    let log = launch.run_dir.join("keytool.log");
    let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    let errors = output.try_clone().context("cannot share the log")?;
    // It does little work: better to start soon than to compile well.
    command.args(["-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC"]);
    let status = interrupt::run(command.stdout(output).stderr(errors))?;
    if !status.success() {
        bail!("making its certificate: keytool ended with {status}:\n{}", last_lines(&log, 20));
    }
    Ok(())
}
