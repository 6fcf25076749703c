//! A run beside the baseline.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::figures::{Figure, Figures, Kind};

/// A smaller change is none.
const CLEARLY: f64 = 0.05;

/// Runs differ by up to this share of a case's instructions, more where they produce: how many messages a request has
/// depends on time. The library's own instructions are a small part of them: their change counts only if it is larger.
const NOISE: f64 = 0.01;
const NOISE_OF_PRODUCING: f64 = 0.025;

pub(super) struct Comparison<'a> {
    pub(super) baseline: Option<&'a Figures>,
    pub(super) now: &'a Figures,
}

impl Comparison<'_> {
    fn before(&self, figure: &Figure) -> Option<&Figure> {
        self.baseline?.of(&figure.case, figure.kind)
    }

    /// As a part of the baseline.
    fn change(&self, figure: &Figure) -> Option<f64> {
        self.before(figure).map(|before| figure.value / before.value - 1.0)
    }

    fn moved(&self, figure: &Figure) -> bool {
        let Some((before, change)) = self.before(figure).zip(self.change(figure)) else {
            return false;
        };
        let is_beyond_noise = match figure.kind {
            Kind::Instructions => true,
            Kind::Share => {
                let all = self.now.of(&figure.case, Kind::Instructions).map_or(0.0, |it| it.value);
                let is_consuming = figure.case.starts_with("consume/");
                let noise = if is_consuming { NOISE } else { NOISE_OF_PRODUCING };
                (figure.value - before.value).abs() > noise * all
            }
            // A range of three rounds leaves out every other value of the same distribution: it is compared with the
            // range of the baseline, not with its median.
            Kind::Throughput | Kind::Cpu => {
                figure.range[0] > before.range[1] || figure.range[1] < before.range[0]
            }
        };
        change.abs() > CLEARLY && is_beyond_noise
    }

    /// Versions that differ: name, the baseline's, now.
    fn other_versions(&self) -> Vec<(&str, &str, &str)> {
        let of_baseline = |name: &str| self.baseline.and_then(|it| it.version(name));
        let versions = self.now.versions.iter().filter(|(name, _)| name != "date");
        let both = versions.filter_map(|(name, now)| {
            of_baseline(name).map(|before| (name.as_str(), before, now.as_str()))
        });
        both.filter(|(_, before, now)| before != now).collect()
    }

    pub(super) fn table(&self) -> String {
        let mut text = match self.baseline {
            Some(baseline) => {
                format!("against the baseline of {}\n", baseline.version("date").unwrap_or("?"))
            }
            None => "there is no baseline; `--save` writes one\n".to_owned(),
        };
        for (title, is_ratio) in
            [("instructions of a message", false), ("ratio to the raw loop", true)]
        {
            let mut figures =
                self.now.all.iter().filter(|it| it.kind.is_ratio() == is_ratio).peekable();
            if figures.peek().is_some() {
                text.push('\n');
                line(&mut text, [title, "baseline", "now", "change", ""]);
            }
            figures.for_each(|figure| self.row(&mut text, figure));
        }
        let moved = self.now.all.iter().filter(|figure| self.moved(figure)).count();
        let _infallible = write!(
            text,
            "\n{moved} of {} moved by more than {:.0} %. \"more than raw\" is the library's own share: it moved only\n\
             if the change is also more than {:.0} % of all instructions, {} % where messages are produced. Ratios are\n\
             noisy, in brackets is the range of the rounds: they moved only if it does not overlap the baseline's either.",
            self.now.all.len(),
            CLEARLY * 100.0,
            NOISE * 100.0,
            NOISE_OF_PRODUCING * 100.0,
        );
        for (name, before, now) in self.other_versions() {
            let _infallible = write!(
                text,
                "\n{name} is {now}, the baseline's was {before}: instructions depend on that."
            );
        }
        text
    }

    fn row(&self, text: &mut String, figure: &Figure) {
        let name = match figure.kind {
            Kind::Instructions => figure.case.clone(),
            kind => format!("{}, {}", figure.case, kind.label()),
        };
        let before = self.before(figure).map_or("none".to_owned(), shown);
        let change =
            self.change(figure).map_or(String::new(), |it| format!("{:+.1} %", it * 100.0));
        let mark = if self.moved(figure) { "  moved" } else { "" };
        line(text, [&name, &before, &shown(figure), &change, mark]);
    }

    pub(super) fn json(&self) -> Value {
        let entry = |figure: &Figure| {
            json!({
                "case": figure.case,
                "kind": figure.kind.label(),
                "baseline": self.before(figure).map(|before| before.value),
                "baseline_range": self.before(figure).map(|before| before.range),
                "now": figure.value,
                "range": figure.range,
                "change": self.change(figure),
                "moved": self.moved(figure),
            })
        };
        let versions = |figures: &Figures| figures.to_json()["versions"].take();
        json!({
            "versions": versions(self.now),
            "baseline_versions": self.baseline.map(versions),
            "figures": self.now.all.iter().map(entry).collect::<Vec<Value>>(),
        })
    }
}

/// With its range, if it has one.
fn shown(figure: &Figure) -> String {
    let format = |value: f64| match figure.kind.is_ratio() {
        true => format!("{value:.2}"),
        false => format!("{value:.0}"),
    };
    let [least, most] = figure.range;
    match least < most {
        true => format!("{} [{}–{}]", format(figure.value), format(least), format(most)),
        false => format(figure.value),
    }
}

/// The first cell to the left, the others to the right of their columns.
fn line(text: &mut String, [name, before, now, change, mark]: [&str; 5]) {
    let row = format!("{name:<45}{before:>17}{now:>18}{change:>10}{mark}");
    text.push_str(row.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(all: &[(Kind, f64, [f64; 2])]) -> Figures {
        let figure =
            |&(kind, value, range): &_| Figure { case: "consume/a".to_owned(), kind, value, range };
        let versions = vec![("rustc".to_owned(), "1".to_owned())];
        Figures { versions, all: all.iter().map(figure).collect() }
    }

    /// Figures before and now, each with a range from a tenth below to a tenth above.
    fn moved(all: &[(Kind, f64, f64)]) -> Vec<bool> {
        let figure = |kind: Kind, value: f64| (kind, value, [value * 0.9, value * 1.1]);
        let before: Vec<_> = all.iter().map(|it| figure(it.0, it.1)).collect();
        let now: Vec<_> = all.iter().map(|it| figure(it.0, it.2)).collect();
        let (baseline, now) = (figures(&before), figures(&now));
        let comparison = Comparison { baseline: Some(&baseline), now: &now };
        now.all.iter().map(|figure| comparison.moved(figure)).collect()
    }

    #[test]
    fn instructions_move_by_more_than_five_percent() {
        let one = |before, now| moved(&[(Kind::Instructions, before, now)]);
        assert_eq!(one(2000.0, 2099.0), [false]);
        assert_eq!(one(2000.0, 2101.0), [true]);
        assert_eq!(one(2000.0, 1899.0), [true]);
    }

    #[test]
    fn the_share_moves_beyond_what_all_instructions_vary_by() {
        let of = |share| {
            let all = [(Kind::Instructions, 2400.0, 2400.0), (Kind::Share, 300.0, share)];
            moved(&all)[1]
        };
        assert!(!of(323.0));
        assert!(of(325.0) && of(275.0));
    }

    #[test]
    fn a_ratio_moves_where_the_ranges_do_not_overlap() {
        assert_eq!(moved(&[(Kind::Cpu, 1.0, 1.2)]), [false]);
        assert_eq!(moved(&[(Kind::Cpu, 1.0, 1.3)]), [true]);
        assert_eq!(moved(&[(Kind::Throughput, 1.0, 0.7)]), [true]);
    }

    #[test]
    fn a_small_change_is_none_however_narrow_the_ranges_are() {
        let baseline = figures(&[(Kind::Cpu, 1.0, [1.0; 2])]);
        let now = figures(&[(Kind::Cpu, 1.04, [1.04; 2])]);
        assert!(!Comparison { baseline: Some(&baseline), now: &now }.moved(&now.all[0]));
    }

    #[test]
    fn what_moved_and_other_versions_are_told() {
        let baseline = figures(&[(Kind::Instructions, 2000.0, [2000.0; 2])]);
        let mut now = figures(&[
            (Kind::Instructions, 2200.0, [2200.0; 2]),
            (Kind::Throughput, 0.9, [0.8, 1.0]),
        ]);
        now.versions[0].1 = "2".to_owned();
        let table = Comparison { baseline: Some(&baseline), now: &now }.table();
        assert!(table.contains("+10.0 %  moved\n"), "{table}");
        assert!(table.contains("0.90 [0.80–1.00]\n"), "{table}");
        assert!(table.contains("1 of 2 moved by more than 5 %"), "{table}");
        assert!(table.ends_with("rustc is 2, the baseline's was 1: instructions depend on that."));
        let alone = Comparison { baseline: None, now: &now };
        assert!(alone.table().starts_with("there is no baseline"));
        assert_eq!(alone.json()["figures"][0]["change"], Value::Null);
    }
}
