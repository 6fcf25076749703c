//! Fetching jars from Maven Central.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::instance::last_lines;
use crate::interrupt;

/// Pinned, so that the same jars come the same way everywhere.
const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// `group:artifact:version` of a library.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Artifact(
    pub(crate) &'static str,
    pub(crate) &'static str,
    pub(crate) &'static str,
);

/// Puts the artifacts and all they depend on into `directory/lib`.
pub(crate) fn fetch(artifacts: &[Artifact], directory: &Path) -> Result<()> {
    let pom = directory.join("pom.xml");
    fs::write(&pom, pom_text(artifacts))
        .with_context(|| format!("cannot write {}", pom.display()))?;
    let lib = directory.join("lib");
    let mut copy = maven(directory, "copy-dependencies");
    copy.arg("--file").arg(&pom);
    copy.arg("-DincludeScope=runtime").arg(format!("-DoutputDirectory={}", lib.display()));
    run(directory, &mut copy)?;
    for Artifact(_, artifact, version) in artifacts {
        let jar = lib.join(format!("{artifact}-{version}.jar"));
        if !jar.is_file() {
            bail!("Maven ended well without {}", jar.display());
        }
    }
    Ok(())
}

/// Puts an artifact into `directory/lib`, without what it depends on, unless it is there.
pub(crate) fn add(artifact: Artifact, directory: &Path) -> Result<()> {
    let Artifact(group, name, version) = artifact;
    let lib = directory.join("lib");
    if lib.join(format!("{name}-{version}.jar")).is_file() {
        return Ok(());
    }
    let mut copy = maven(directory, "copy");
    copy.arg(format!("-Dartifact={group}:{name}:{version}:jar"));
    copy.arg(format!("-DoutputDirectory={}", lib.display()));
    run(directory, &mut copy)
}

/// Puts what is in an artifact into `directory/name`. Its `form` is `zip`, or `zip:all` with a classifier.
pub(crate) fn unpack(artifact: Artifact, form: &str, directory: &Path, name: &str) -> Result<()> {
    let Artifact(group, artifact, version) = artifact;
    let mut unpack = maven(directory, "unpack");
    unpack.arg(format!("-Dartifact={group}:{artifact}:{version}:{form}"));
    unpack.arg(format!("-DoutputDirectory={}", directory.join(name).display()));
    run(directory, &mut unpack)
}

/// Maven with this goal, in the directory.
fn maven(directory: &Path, goal: &str) -> Command {
    let mut command = Command::new("mvn");
    command.args(["--quiet", "--batch-mode"]).arg(format!("{PLUGIN}:{goal}"));
    command.current_dir(directory);
    command
}

fn run(directory: &Path, command: &mut Command) -> Result<()> {
    let log = directory.join("maven.log");
    let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    let errors = output.try_clone().context("cannot share Maven's log")?;
    let status = interrupt::run(command.stdout(output).stderr(errors))?;
    if !status.success() {
        bail!("Maven ended with {status}:\n{}", last_lines(&log, 15));
    }
    Ok(())
}

fn pom_text(artifacts: &[Artifact]) -> String {
    let dependencies: String = artifacts
        .iter()
        .map(|Artifact(group, artifact, version)| {
            format!(
                "    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
                 <version>{version}</version></dependency>\n"
            )
        })
        .collect();
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  <modelVersion>4.0.0</modelVersion>\n  \
         <groupId>local</groupId><artifactId>servers</artifactId><version>1</version><packaging>pom</packaging>\n  \
         <dependencies>\n{dependencies}  </dependencies>\n</project>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pom_names_every_artifact() {
        let text = pom_text(&[Artifact("g", "a", "1"), Artifact("h", "b", "2")]);
        assert!(
            text.contains("<groupId>g</groupId><artifactId>a</artifactId><version>1</version>")
        );
        assert_eq!(text.matches("<dependency>").count(), 2);
    }
}
