//! The figures of a run, and of the baseline's, which is one.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// What a figure says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of a message.
    Instructions,
    /// Those more than the raw loop's: the library's own.
    Share,
    /// Of the raw loop's.
    Throughput,
    /// Of the raw loop's.
    Cpu,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Instructions, Self::Share, Self::Throughput, Self::Cpu];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::Share => "more than raw",
            Self::Throughput => "throughput",
            Self::Cpu => "CPU",
        }
    }

    pub(super) fn is_ratio(self) -> bool {
        matches!(self, Self::Throughput | Self::Cpu)
    }

    /// What is worth storing of a value.
    fn rounded(self, value: f64) -> f64 {
        let digits = if self.is_ratio() { 1000.0 } else { 1.0 };
        (value * digits).round() / digits
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    /// The case's name.
    pub(super) case: String,
    pub(super) kind: Kind,
    pub(super) value: f64,
    /// Least and most of the rounds; the value itself where there is one round.
    pub(super) range: [f64; 2],
}

/// Figures, and what was measured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figures {
    /// By name; the date, too.
    pub(super) versions: Vec<(String, String)>,
    pub(super) all: Vec<Figure>,
}

impl Figures {
    pub(super) fn new(versions: Vec<(String, String)>) -> Self {
        Self { versions, all: Vec::new() }
    }

    /// Adds what a run of the benchmark has written.
    pub(super) fn add(
        &mut self,
        json: &Value,
        of_case: impl Fn(&Value) -> Vec<Figure>,
    ) -> Result<()> {
        let results = json["results"].as_array().context("the benchmark wrote no results")?;
        self.all.extend(results.iter().flat_map(of_case));
        for (name, version) in texts(&json["versions"]) {
            if self.version(&name).is_none() {
                self.versions.push((name, version));
            }
        }
        Ok(())
    }

    pub(super) fn version(&self, name: &str) -> Option<&str> {
        let found = self.versions.iter().find(|(other, _)| other == name);
        found.map(|(_, version)| version.as_str())
    }

    pub(super) fn of(&self, case: &str, kind: Kind) -> Option<&Figure> {
        self.all.iter().find(|it| it.case == case && it.kind == kind)
    }

    pub(super) fn from_json(json: &Value) -> Result<Self> {
        let figures = json["figures"].as_array().context("the baseline has no figures")?;
        let of_entry = |entry: &Value| {
            let kind = Kind::ALL.into_iter().find(|kind| entry["kind"] == kind.label())?;
            let value = entry["value"].as_f64()?;
            let case = entry["case"].as_str()?.to_owned();
            Some(Figure { case, kind, value, range: range(&entry["range"], value) })
        };
        let all: Option<Vec<Figure>> = figures.iter().map(of_entry).collect();
        let all = all.context("a figure of the baseline is not complete")?;
        Ok(Self { versions: texts(&json["versions"]), all })
    }

    pub(super) fn to_json(&self) -> Value {
        let entry = |figure: &Figure| {
            let Figure { case, kind, value, range } = figure;
            let mut entry =
                json!({ "case": case, "kind": kind.label(), "value": kind.rounded(*value) });
            if range[0] < range[1] {
                entry["range"] = json!(range.map(|value| kind.rounded(value)));
            }
            entry
        };
        let versions = self.versions.iter().map(|(name, it)| (name.clone(), json!(it)));
        json!({
            "versions": versions.collect::<Map<String, Value>>(),
            "figures": self.all.iter().map(entry).collect::<Vec<Value>>(),
        })
    }
}

/// The figures of a case whose instructions were counted.
pub(super) fn instructions(entry: &Value) -> Vec<Figure> {
    let all = figure(entry, Kind::Instructions, "instructions");
    all.into_iter().chain(figure(entry, Kind::Share, "more_than_ceiling")).collect()
}

/// The figures of a case that has a raw loop beside it.
pub(super) fn ratios(entry: &Value) -> Vec<Figure> {
    let throughput = figure(entry, Kind::Throughput, "ratio");
    throughput.into_iter().chain(figure(entry, Kind::Cpu, "cpu_ratio")).collect()
}

/// The median under this name, as the benchmarks write it, and the range beside.
fn figure(entry: &Value, kind: Kind, name: &str) -> Option<Figure> {
    let case = entry["name"].as_str()?.to_owned();
    let value = entry[name].as_f64()?;
    Some(Figure { case, kind, value, range: range(&entry[format!("{name}_range")], value) })
}

fn range(json: &Value, value: f64) -> [f64; 2] {
    match (json[0].as_f64(), json[1].as_f64()) {
        (Some(least), Some(most)) => [least, most],
        _ => [value, value],
    }
}

fn texts(json: &Value) -> Vec<(String, String)> {
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    json.as_object().into_iter().flatten().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Figures {
        let mut figures = Figures::new(vec![("rustc".to_owned(), "1.95.0".to_owned())]);
        let counted = json!({
            "versions": { "kasper": "0.2.0" },
            "results": [
                { "name": "consume/100B/raw", "instructions": 2109.4 },
                { "name": "consume/100B/ours-static", "instructions": 2420.0, "more_than_ceiling": 310.6 },
            ],
        });
        figures.add(&counted, instructions).expect("results");
        let timed = json!({
            "versions": { "kasper": "0.2.0" },
            "results": [
                { "name": "a", "ratio": 0.91, "ratio_range": [0.84, 0.9712], "cpu_ratio": 1.1 },
                { "name": "raw", "ratio": null },
            ],
        });
        figures.add(&timed, ratios).expect("results");
        figures
    }

    #[test]
    fn figures_are_read_from_what_the_benchmark_writes() {
        let figures = measured();
        let kinds: Vec<Kind> = figures.all.iter().map(|figure| figure.kind).collect();
        let instructions = Kind::Instructions;
        assert_eq!(kinds, [instructions, instructions, Kind::Share, Kind::Throughput, Kind::Cpu]);
        assert_eq!(figures.all[3].range, [0.84, 0.9712]);
        assert_eq!(figures.all[4].range, [1.1, 1.1]);
        assert_eq!(figures.version("kasper"), Some("0.2.0"));
        assert_eq!(figures.versions.len(), 2);
        assert!(Figures::new(Vec::new()).add(&json!({}), ratios).is_err());
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written_but_for_digits() {
        let read = Figures::from_json(&measured().to_json()).expect("complete");
        let value = |case, kind| read.of(case, kind).map(|it| it.value);
        assert_eq!(value("consume/100B/raw", Kind::Instructions), Some(2109.0));
        assert_eq!(value("consume/100B/ours-static", Kind::Share), Some(311.0));
        assert_eq!(read.all[3].range, [0.84, 0.971]);
        assert_eq!(Figures::from_json(&read.to_json()).expect("complete"), read);
        assert!(Figures::from_json(&json!({ "figures": [{ "case": "a" }] })).is_err());
    }

    #[test]
    fn the_baseline_of_the_repository_is_complete() {
        let text = include_str!("../../../../benches/baseline.json");
        let json = serde_json::from_str(text).expect("JSON");
        let baseline = Figures::from_json(&json).expect("complete");
        for kind in Kind::ALL {
            assert!(baseline.of("consume/100B/ours-static", kind).is_some(), "{kind:?}");
        }
        for version in ["date", "kasper", "librdkafka", "rustc"] {
            assert!(baseline.version(version).is_some(), "{version}");
        }
    }
}
