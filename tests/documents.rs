//! The documents say what is so: every path that they name exists, and every folder has its line in
//! ARCHITECTURE.md.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests and what they print"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kasper::metrics::CATALOGUE;

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
    let folders = [
        "src/",
        "tests/",
        "examples/",
        "benches/",
        "xtask/",
        "chaos/",
        "kasper-dlq/",
        "kasper-schema/",
        "kasper-top/",
        "heavy-tests/",
        "compile-fail/",
        "docs/",
        ".ci/",
    ];
    quoted
        .filter(|quoted| folders.iter().any(|folder| quoted.starts_with(folder)))
        .map(|quoted| quoted.split([' ', ',']).next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn every_path_named_in_the_documents_exists() {
    let documents =
        ["README.md", "ARCHITECTURE.md", "DESIGN.md", "CONTRIBUTING.md", "docs/operations.md"];
    for document in documents {
        for path in named_paths(&read(document)) {
            assert!(root().join(&path).exists(), "{document} names `{path}`, which does not exist");
        }
    }
}

#[test]
fn every_folder_has_its_line_in_the_architecture_and_every_file_says_what_it_is_for() {
    let architecture = read("ARCHITECTURE.md");
    for folder in [
        "src",
        "examples",
        "benches",
        "tests",
        "heavy-tests/tests",
        "compile-fail/tests",
        "xtask/src",
        "chaos",
        "kasper-dlq",
        "kasper-schema",
        "kasper-top",
    ] {
        for file in sources(folder) {
            let folder = Path::new(&file).parent().unwrap().display();
            assert!(
                architecture.contains(&format!("| `{folder}` |")),
                "ARCHITECTURE.md has no line for `{folder}`"
            );
            assert!(read(&file).starts_with("//!"), "`{file}` does not say what it is for");
        }
    }
}

#[test]
fn the_guide_has_every_metric_and_no_other() {
    let guide = read("docs/operations.md");
    let quoted = guide.split('`').skip(1).step_by(2);
    let named: BTreeSet<&str> = quoted.filter(|name| name.starts_with("kasper_")).collect();
    let known: BTreeSet<&str> = CATALOGUE.iter().map(|metric| metric.name).collect();
    assert_eq!(named, known);
    // A row of a table has its metrics first, and then their labels.
    for metric in CATALOGUE {
        let name = format!("`{}`", metric.name);
        let rows = guide.lines().filter(|line| line.starts_with("| `kasper_"));
        let mut cells = rows.map(|row| row.split(" | ").collect::<Vec<_>>());
        let row = cells.find(|cells| cells[0].contains(&name));
        let row = row.unwrap_or_else(|| panic!("{name} has no row"));
        assert_eq!(row[1].trim_matches([' ', '|']), metric.labels.join(", "), "{name}");
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
