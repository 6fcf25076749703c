//! A schema registry: Apicurio's, which has Confluent's API besides its own.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::http::get;
use super::maven::{self, Artifact};
use super::{Launch, Product, Server};
use crate::tools::Tool;

/// Keeps everything in memory. Not 3.0.9: Maven Central lacks the parent of its POM.
const APICURIO: Artifact = Artifact("io.apicurio", "apicurio-registry-app", "2.6.13.Final");

/// Where Confluent's API is.
const API: &str = "/apis/ccompat/v7";

#[derive(Debug)]
pub(crate) struct Registry;

impl Product for Registry {
    fn name(&self) -> &'static str {
        "registry"
    }

    fn version(&self) -> &'static str {
        APICURIO.2
    }

    fn tools(&self) -> &'static [Tool] {
        &[Tool::Java(17)]
    }

    fn fetch_tools(&self) -> &'static [Tool] {
        &[Tool::Maven]
    }

    fn fetch(&self, directory: &Path) -> Result<()> {
        println!("fetching Apicurio Registry {} from Maven Central (130 MB, once)", self.version());
        maven::unpack(APICURIO, "zip:all", directory, APP)
    }
}

/// The folder with the program and its jars.
const APP: &str = "app";

impl Server for Registry {
    fn product(&self) -> &dyn Product {
        self
    }

    fn variable(&self) -> &'static str {
        "KASPER_TEST_REGISTRY"
    }

    fn otherwise(&self) -> &'static str {
        "Or leave its tests out: cargo xtask test --without registry"
    }

    fn ports(&self) -> usize {
        1
    }

    fn prepare(&self, launch: &Launch) -> Result<Command> {
        let &[port] = launch.ports.as_slice() else { bail!("it needs a port") };
        launch.tell(&[(self.variable(), format!("http://127.0.0.1:{port}{API}"))])?;
        let jar = format!("{}-{}-runner.jar", APICURIO.1, APICURIO.2);
        let mut command = Command::new("java");
        command.arg(format!("-Xmx{}m", launch.heap_mb));
        command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-jar"]);
        command.arg(launch.files.join(APP).join(jar));
        command.env("QUARKUS_HTTP_HOST", "127.0.0.1").env("QUARKUS_HTTP_PORT", port.to_string());
        Ok(command)
    }

    /// `address` is what the variable says, or where it was started.
    fn answers(&self, address: &str) -> Result<()> {
        let address = address.strip_prefix("http://").unwrap_or(address);
        let (server, api) = address.find('/').map_or((address, API), |at| address.split_at(at));
        let answer = get(server, &format!("{}/subjects", api.trim_end_matches('/')));
        let answer = answer.context("no answer")?;
        if answer.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
        bail!("it says {}", answer.lines().next().unwrap_or_default())
    }
}
