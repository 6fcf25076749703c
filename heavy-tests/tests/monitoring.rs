//! The dashboard and the alert rules name what there is: their queries are parsed, and each series and label in them
//! is one of the catalogue.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kasper::metrics::{CATALOGUE, Kind, Metric};
use promql_parser::label::Matchers;
use promql_parser::parser::{
    AggregateExpr, BinaryExpr, Expr, LabelModifier, VectorMatchCardinality, VectorSelector, parse,
};
use serde_json::Value;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)).unwrap()
}

fn dashboard() -> Value {
    serde_json::from_str(&read("docs/monitoring/grafana.json")).unwrap()
}

fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().unwrap()
}

fn rules() -> Vec<serde_yaml_ng::Value> {
    let rules: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(&read("docs/monitoring/alerts.yml")).unwrap();
    rules["groups"][0]["rules"].as_sequence().unwrap().clone()
}

/// The metric that a series is of, by its name in the exposition, and the labels that this one has besides the
/// catalogue's.
fn metric(series: &str) -> Option<(&'static Metric, &'static [&'static str])> {
    CATALOGUE.iter().find_map(|metric| match metric.kind {
        Kind::Histogram => {
            let suffix = series.strip_prefix(metric.name)?;
            let more: &[&str] = if suffix == "_bucket" { &["le"] } else { &[] };
            matches!(suffix, "_bucket" | "_sum" | "_count").then_some((metric, more))
        }
        _ => (series == metric.name).then_some((metric, &[] as &[&str])),
    })
}

/// What a query names.
#[derive(Default)]
struct Names {
    metrics: BTreeSet<&'static str>,
    /// Labels that all series below have. They begin with those that Prometheus adds.
    faults: Vec<String>,
}

impl Names {
    /// Looks through an expression; returns the labels that its result has at most.
    fn look(&mut self, expression: &Expr) -> BTreeSet<String> {
        match expression {
            Expr::VectorSelector(selector) => self.selector(selector),
            Expr::MatrixSelector(matrix) => self.selector(&matrix.vs),
            Expr::Subquery(subquery) => self.look(&subquery.expr),
            Expr::Paren(paren) => self.look(&paren.expr),
            Expr::Unary(unary) => self.look(&unary.expr),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            Expr::Binary(binary) => self.binary(binary),
            Expr::Call(call) => {
                let labels = call.args.args.iter().map(|argument| self.look(argument));
                labels.fold(BTreeSet::new(), |all, labels| &all | &labels)
            }
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => BTreeSet::new(),
            other => panic!("not thought of: {other:?}"),
        }
    }

    fn selector(&mut self, selector: &VectorSelector) -> BTreeSet<String> {
        let name = selector.name.as_deref().unwrap_or_default();
        let Some((metric, more)) = metric(name) else {
            self.faults.push(format!("`{name}` is not in the catalogue"));
            return BTreeSet::new();
        };
        self.metrics.insert(metric.name);
        let own = metric.labels.iter().chain(more).chain(&["processor", "instance", "job"]);
        let labels: BTreeSet<String> = own.map(ToString::to_string).collect();
        let Matchers { matchers, .. } = &selector.matchers;
        let matched = matchers.iter().map(|matcher| matcher.name.clone()).collect();
        self.has(&labels, &matched);
        labels
    }

    fn aggregate(&mut self, aggregate: &AggregateExpr) -> BTreeSet<String> {
        let labels = self.look(&aggregate.expr);
        match &aggregate.modifier {
            Some(LabelModifier::Include(by)) => {
                let by = by.labels.iter().cloned().collect();
                self.has(&labels, &by);
                by
            }
            // `topk` and its like keep all labels.
            None if aggregate.param.is_some() => labels,
            None => BTreeSet::new(),
            Some(LabelModifier::Exclude(_)) => panic!("not thought of: {aggregate:?}"),
        }
    }

    fn binary(&mut self, binary: &BinaryExpr) -> BTreeSet<String> {
        let (left, right) = (self.look(&binary.lhs), self.look(&binary.rhs));
        if let Some(modifier) = &binary.modifier {
            assert!(!matches!(modifier.card, VectorMatchCardinality::ManyToOne(_)), "{binary:?}");
            if let Some(LabelModifier::Include(on)) = &modifier.matching {
                let on = on.labels.iter().cloned().collect();
                self.has(&left, &on);
                self.has(&right, &on);
                return left;
            }
        }
        // Else nothing would ever match.
        if !left.is_empty() && !right.is_empty() && left != right {
            self.faults.push(format!("{left:?} are never the same as {right:?}"));
        }
        &left | &right
    }

    fn has(&mut self, labels: &BTreeSet<String>, named: &BTreeSet<String>) {
        for label in named.difference(labels) {
            self.faults.push(format!("there is no label `{label}`, only {labels:?}"));
        }
    }
}

/// The metrics that a query names.
#[track_caller]
fn named(query: &str) -> BTreeSet<&'static str> {
    // What Grafana puts in.
    let query = query.replace("$__rate_interval", "1m").replace("$processor", ".*");
    assert!(!query.contains('$'), "{query}");
    let mut names = Names::default();
    names.look(&parse(&query).unwrap_or_else(|error| panic!("{query}: {error}")));
    assert!(names.faults.is_empty(), "{query}: {:?}", names.faults);
    names.metrics
}

#[test]
fn the_dashboard_names_what_there_is_and_all_of_it() {
    let dashboard = dashboard();
    let targets = panels(&dashboard).iter().filter_map(|panel| panel["targets"].as_array());
    let queries = targets.flatten().map(|target| target["expr"].as_str().unwrap());
    let shown: BTreeSet<&str> = queries.flat_map(named).collect();
    let known: BTreeSet<&str> = CATALOGUE.iter().map(|metric| metric.name).collect();
    assert_eq!(shown, known);
}

#[test]
fn panels_say_what_they_show_and_have_their_places() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{title}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{title} lies over another");
            }
        }
        if panel["type"] != "row" {
            assert!(panel["description"].as_str().unwrap().ends_with('.'), "{title}");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

#[test]
fn rules_name_what_there_is_and_the_guide_tells_what_to_do() {
    let guide = read("docs/operations.md");
    let headings: BTreeSet<&str> = guide.lines().filter_map(|l| l.strip_prefix("### ")).collect();
    let rules = rules();
    assert!(!rules.is_empty());
    for rule in &rules {
        let name = rule["alert"].as_str().unwrap();
        let metrics = named(rule["expr"].as_str().unwrap());
        assert!(!metrics.is_empty(), "{name}");
        assert!(["warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap()));
        for annotation in ["summary", "description"] {
            assert!(rule["annotations"][annotation].is_string(), "{name}: {annotation}");
        }
        let anchor = format!("docs/operations.md#{}", name.to_lowercase());
        assert_eq!(rule["annotations"]["runbook_url"].as_str(), Some(anchor.as_str()));
        assert!(headings.contains(name), "the guide has no heading {name}");
    }
    let alerts = headings.iter().filter(|heading| heading.starts_with("Kasper")).count();
    assert_eq!(alerts, rules.len(), "the guide tells of alerts that there are not");
}

#[test]
fn what_is_not_there_is_found() {
    let faults = |query: &str| {
        let mut names = Names::default();
        names.look(&parse(query).unwrap());
        names.faults.len()
    };
    assert_eq!(faults("sum by (processor, le) (rate(kasper_process_seconds_bucket[5m]))"), 0);
    for query in [
        "kasper_nothing",
        "kasper_process_seconds",
        "kasper_lag_messages_total",
        "kasper_lag_messages{tenant=\"a\"}",
        "sum by (key) (kasper_lag_messages)",
        "sum by (le) (kasper_process_seconds_sum)",
        "kasper_lag_messages > on (store) kasper_lag_messages",
        "sum by (processor) (kasper_lag_messages) / sum by (topic) (kasper_lag_messages)",
    ] {
        assert_ne!(faults(query), 0, "{query}");
    }
}
