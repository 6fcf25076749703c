//! The programs that the benchmark `peers` compares the library with, in Go and Java: compiled here, told to it by
//! variables. Without their compilers they are left out.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::{target, workspace};
use crate::servers::{self, Artifact, Product};
use crate::steps::Steps;
use crate::tools::{self, Tool};

/// What the benchmark is told.
pub(super) type Variables = Vec<(&'static str, OsString)>;

/// Where the programs' sources are, each in a folder of its own.
const SOURCES: &str = "benches/peers";

/// Compiles those for which there is a compiler, and notes those for which there is none.
pub(super) fn build(steps: &mut Steps) -> Result<Variables> {
    let mut variables = Vec::new();
    variables.extend(in_go(steps, "franz-go", "franz", "KASPER_BENCH_FRANZ_GO")?);
    variables.extend(kafka_streams(steps)?);
    variables.extend(in_go(steps, "goka", "goka", "KASPER_BENCH_GOKA")?);
    Ok(variables)
}

/// The path of a program in Go, made from a folder of the module.
fn in_go(
    steps: &mut Steps,
    name: &str,
    folder: &str,
    variable: &'static str,
) -> Result<Option<(&'static str, OsString)>> {
    if let Some(problem) = tools::problem(&[Tool::Go]) {
        steps.skip(name, &problem);
        return Ok(None);
    }
    let program = target().join("peers").join(name);
    let mut go = Command::new("go");
    go.current_dir(workspace().join(SOURCES).join("go"));
    // The module is pinned by its go.sum: nothing here changes it.
    go.args(["build", "-mod=readonly", "-o"]).arg(&program).arg(format!("./{folder}"));
    steps.run(&format!("build {name}'s program"), &mut go)?;
    Ok(Some((variable, program.into())))
}

/// The class path of the program in Java.
fn kafka_streams(steps: &mut Steps) -> Result<Option<(&'static str, OsString)>> {
    const NAME: &str = "kafka-streams";
    let mut needed = vec![Tool::Java(17), Tool::Javac];
    needed.extend(servers::missing_tools(&KafkaStreams)?);
    if let Some(problem) = tools::problem(&needed) {
        steps.skip(NAME, &problem);
        return Ok(None);
    }
    let jars = match servers::fetched(&KafkaStreams) {
        Ok(files) => files.join("lib").join("*"),
        Err(error) => {
            steps.fail(NAME, &error);
            return Ok(None);
        }
    };
    let classes = target().join("peers").join(NAME);
    let sources = java_files(&workspace().join(SOURCES).join("java"))?;
    let mut javac = Command::new("javac");
    javac.args(["--release", "17", "-Xlint:all", "-Werror", "-cp"]).arg(&jars);
    javac.arg("-d").arg(&classes).args(sources);
    steps.run(&format!("build {NAME}'s program"), &mut javac)?;
    // The asterisk is for Java, which takes it as "all jars here".
    let class_path = std::env::join_paths([classes, jars]).context("a path with a colon")?;
    Ok(Some(("KASPER_BENCH_KAFKA_STREAMS", class_path)))
}

fn java_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot list {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        files.push(entry.with_context(context)?.path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "java"));
    files.sort();
    Ok(files)
}

/// Kafka Streams' jars.
#[derive(Debug)]
struct KafkaStreams;

/// The version of slf4j that these jars are made for.
const SLF4J: &str = "1.7.36";

impl Product for KafkaStreams {
    fn name(&self) -> &'static str {
        "kafka-streams"
    }

    /// The newest release that runs on Java 17.
    fn version(&self) -> &'static str {
        "4.4.0"
    }

    fn tools(&self) -> &'static [Tool] {
        &[Tool::Java(17)]
    }

    fn fetch_tools(&self) -> &'static [Tool] {
        &[Tool::Maven]
    }

    fn fetch(&self, directory: &Path) -> Result<()> {
        let version = self.version();
        println!("fetching Kafka Streams {version} from Maven Central (90 MB, once)");
        let artifacts = [
            Artifact("org.apache.kafka", "kafka-streams", version),
            Artifact("org.slf4j", "slf4j-simple", SLF4J),
        ];
        servers::fetch_jars(&artifacts, directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_are_found() {
        let sources = workspace().join(SOURCES);
        assert!(sources.join("go").join("go.sum").is_file());
        let java = java_files(&sources.join("java")).expect("a folder");
        assert!(java.iter().any(|file| file.ends_with("Peer.java")), "{java:?}");
    }
}
