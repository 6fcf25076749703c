//! OpenSearch with its security plugin: it speaks TLS only, and wants to know who asks.
//!
//! Its users are the plugin's own for demonstrations, each with its name for a password: `admin`, who may do
//! everything, and `readall`, who may read. They open a server on 127.0.0.1 that lives as long as a test run.

use std::fs;
use std::io::{Read as _, Write as _};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::super::{Launch, Product, Server, certificate, maven};
use super::{Artifact, OPENSEARCH, Runner};
use crate::tools::Tool;

const PLUGIN: Artifact = Artifact("org.opensearch.plugin", "opensearch-security", "2.19.1.0");

/// Where the plugin is in what was fetched.
const UNPACKED: &str = "plugin";

const RUNNER: Runner =
    Runner { name: "opensearch-secured", variable: "KASPER_TEST_OPENSEARCH_SECURED", ..OPENSEARCH };

/// `admin:admin` in base64.
const CREDENTIALS: &str = "YWRtaW46YWRtaW4=";

/// The entry for OpenSearch with TLS and passwords.
#[derive(Debug)]
pub(crate) struct Secured;

impl Product for Secured {
    fn name(&self) -> &'static str {
        RUNNER.name
    }

    fn version(&self) -> &'static str {
        PLUGIN.2
    }

    fn tools(&self) -> &'static [Tool] {
        &[Tool::Java(17), Tool::OpenSsl]
    }

    fn fetch_tools(&self) -> &'static [Tool] {
        RUNNER.fetch_tools()
    }

    fn fetch(&self, directory: &Path) -> Result<()> {
        RUNNER.fetch(directory)?;
        println!("fetching its security plugin from Maven Central (44 MB, once)");
        maven::unpack(PLUGIN, "zip", directory, UNPACKED)?;
        // All that it runs from is in one place.
        for jar in jars(&directory.join(UNPACKED))? {
            let Some(name) = jar.file_name() else { continue };
            let place = directory.join("lib").join(name);
            if !place.exists() {
                fs::rename(&jar, &place)
                    .with_context(|| format!("cannot move to {}", place.display()))?;
            }
        }
        Ok(())
    }
}

impl Server for Secured {
    fn product(&self) -> &dyn Product {
        self
    }

    fn variable(&self) -> &'static str {
        RUNNER.variable
    }

    fn otherwise(&self) -> &'static str {
        RUNNER.otherwise()
    }

    fn ports(&self) -> usize {
        RUNNER.ports()
    }

    fn first_port(&self) -> RangeInclusive<u16> {
        RUNNER.first_port()
    }

    fn prepare(&self, launch: &Launch) -> Result<Command> {
        certificate::make_pem(launch)?;
        let conf = launch.run_dir.join("conf");
        let users = conf.join("opensearch-security");
        fs::create_dir_all(&users).with_context(|| format!("cannot create {}", users.display()))?;
        copy_files(&launch.files.join(UNPACKED).join("config"), &users)?;
        // It reads nothing that lies elsewhere.
        let authority = certificate::certificate(&launch.run_dir);
        for (from, name) in
            [(authority.clone(), "ca.pem"), (launch.run_dir.join(certificate::KEY), "key.pem")]
        {
            fs::copy(&from, conf.join(name))
                .with_context(|| format!("cannot copy {}", from.display()))?;
        }
        let arguments = "-pluginTypes org.opensearch.security.OpenSearchSecurityPlugin";
        let command = RUNNER.prepare_with(launch, SETTINGS, arguments)?;
        launch.tell(&[("KASPER_TEST_OPENSEARCH_CA", authority.display().to_string())])?;
        Ok(command)
    }

    fn answers(&self, address: &str) -> Result<()> {
        let answer = ask(address)?;
        match answer.starts_with("HTTP/1.1 200") {
            true => Ok(()),
            false => bail!("it says {}", answer.lines().next().unwrap_or_default()),
        }
    }
}

const SETTINGS: &str = "\
plugins.security.ssl.http.enabled: true
plugins.security.ssl.http.pemcert_filepath: ca.pem
plugins.security.ssl.http.pemkey_filepath: key.pem
plugins.security.ssl.http.pemtrustedcas_filepath: ca.pem
# Among nodes, of which there is one.
plugins.security.ssl.transport.pemcert_filepath: ca.pem
plugins.security.ssl.transport.pemkey_filepath: key.pem
plugins.security.ssl.transport.pemtrustedcas_filepath: ca.pem
plugins.security.ssl.transport.enforce_hostname_verification: false
plugins.security.nodes_dn: [\"CN=kasper-test\"]
plugins.security.authcz.admin_dn: [\"CN=nobody\"]
# The users come from the files beside this one.
plugins.security.allow_default_init_securityindex: true
";

fn jars(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    let context = || format!("cannot list {}", directory.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.extension().is_some_and(|extension| extension == "jar") {
            found.push(path);
        }
    }
    Ok(found)
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("cannot copy {}", from.display());
    for entry in fs::read_dir(from).with_context(context)? {
        let entry = entry.with_context(context)?;
        fs::copy(entry.path(), to.join(entry.file_name())).with_context(context)?;
    }
    Ok(())
}

/// The answer to a request of the administrator's, by OpenSSL's program, which has no time limit of its own.
fn ask(address: &str) -> Result<String> {
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run openssl")?;
    let answer = answer(&mut client, address);
    // It may have ended by itself.
    let _ = client.kill();
    client.wait().context("cannot wait for openssl")?;
    answer
}

fn answer(client: &mut Child, address: &str) -> Result<String> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let mut input = client.stdin.take().context("no input")?;
    write!(
        input,
        "GET /_cluster/health HTTP/1.1\r\nHost: {address}\r\n\
         Authorization: Basic {CREDENTIALS}\r\nConnection: close\r\n\r\n"
    )
    .context("no connection")?;
    let began = Instant::now();
    while client.try_wait().context("cannot wait for openssl")?.is_none() {
        if began.elapsed() > PATIENCE {
            bail!("no answer within {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    // Less than a pipe holds.
    let mut answer = String::new();
    let mut output = client.stdout.take().context("no output")?;
    output.read_to_string(&mut answer).context("no answer")?;
    Ok(answer)
}
