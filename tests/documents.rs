//! The documents say what is so: every path that they name exists, and every source file has its line
//! in ARCHITECTURE.md.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests and what they print"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// Source files below a folder, as paths from the root.
fn sources(folder: &str) -> BTreeSet<String> {
    fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => collect(&path, into),
                false => into.push(path),
            }
        }
    }
    let mut files = Vec::new();
    collect(&root().join(folder), &mut files);
    let files = files.iter().filter(|file| file.extension().is_some_and(|e| e == "rs"));
    files.map(|file| file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()).collect()
}

/// What stands in backquotes and looks like a path of this repository.
fn named_paths(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let folders = ["src/", "tests/", "examples/", "benches/", "xtask/", ".ci/"];
    quoted
        .filter(|quoted| folders.iter().any(|folder| quoted.starts_with(folder)))
        .map(|quoted| quoted.split([' ', ',']).next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn every_path_named_in_the_documents_exists() {
    for document in ["README.md", "ARCHITECTURE.md", "DESIGN.md", "CONTRIBUTING.md"] {
        for path in named_paths(&read(document)) {
            assert!(root().join(&path).exists(), "{document} names `{path}`, which does not exist");
        }
    }
}

#[test]
fn every_source_file_has_its_line_in_the_architecture() {
    let architecture = read("ARCHITECTURE.md");
    for folder in ["src", "examples", "benches", "tests", "xtask/src"] {
        for file in sources(folder) {
            let is_case = file.starts_with("tests/ui/");
            assert!(
                is_case || architecture.contains(&format!("`{file}`")),
                "ARCHITECTURE.md has no line for `{file}`"
            );
        }
    }
}

#[test]
fn every_symbol_of_go_kasper_is_answered_in_the_design() {
    let design = read("DESIGN.md");
    for symbol in [
        "Config.TopicProcessorName",
        "Config.Client",
        "Config.InputTopics",
        "Config.InputPartitions",
        "Config.BatchSize",
        "Config.BatchWaitDuration",
        "Config.Logger",
        "Config.MetricsProvider",
        "Config.MetricsUpdateInterval",
        "Counter",
        "Elasticsearch",
        "NewElasticsearch",
        "GetClient",
        "ElasticsearchTenancy",
        "Gauge",
        "Logger",
        "NewBasicLogger",
        "NewJSONLogger",
        "NewTextLogger",
        "Map",
        "NewMap",
        "Map.GetMap",
        "MessageProcessor.Process",
        "MetricsProvider",
        "MultiElasticsearch",
        "NewMultiElasticsearch",
        "MultiMap",
        "NewMultiMap",
        "MultiRedis",
        "NewMultiRedis",
        "MultiStore",
        "NoopMetricsProvider",
        "Prometheus",
        "Redis",
        "NewRedis",
        "Sender.Send",
        "Sender.Flush",
        "Store",
        "Store.Get",
        "GetAll",
        "Put",
        "PutAll",
        "Delete",
        "Summary",
        "TenantKey",
        "AllTenants",
        "Tenant",
        "Fetch",
        "Push",
        "NewTopicProcessor",
        "TopicProcessor.Close",
        "TopicProcessor.HasConsumedAllMessages",
        "TopicProcessor.RunLoop",
    ] {
        assert!(design.contains(&format!("`{symbol}`")), "DESIGN.md does not answer `{symbol}`");
    }
}
