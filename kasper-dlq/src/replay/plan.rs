//! What a replay would do: for `--dry-run`, and for the question before anything is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::ops::ControlFlow;

use anyhow::Result;

use super::rules::{Rules, Verdict};
use super::tally::{Counts, Outcome};
use crate::cluster::{Cluster, Extent};
use crate::text::{count, one_line, table};

#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) counts: Counts,
    /// By topic.
    goes_to: BTreeMap<String, Destination>,
    /// Why it would stop; each once.
    pub(crate) problems: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Destination {
    messages: u64,
    /// Empty: keys choose.
    partitions: BTreeSet<i32>,
}

impl Plan {
    /// Reads what is left of the topic.
    pub(crate) fn make(
        cluster: &Cluster,
        topic: &str,
        left: &[Extent],
        rules: &Rules,
    ) -> Result<Self> {
        let mut plan = Self::default();
        // Not while messages are read: the client answers one question at a time.
        let mut targets = BTreeSet::new();
        cluster.read(topic, left, |message| {
            let outcome = match rules.judge(&message) {
                Ok(Verdict::Replay(target)) => {
                    let destination = plan.goes_to.entry(target.topic.clone()).or_default();
                    destination.messages += 1;
                    destination.partitions.extend(target.partition);
                    targets.insert((target.topic.clone(), target.partition));
                    Outcome::Replayed
                }
                Ok(Verdict::FilteredOut) => Outcome::FilteredOut,
                Ok(Verdict::Exhausted) => Outcome::Exhausted,
                Ok(Verdict::Reference) => Outcome::Reference,
                Ok(Verdict::NotALetter) => Outcome::NotALetter,
                Err(refused) => {
                    plan.problems.insert(refused.to_string());
                    return Ok(ControlFlow::Continue(()));
                }
            };
            plan.counts.add(outcome);
            Ok(ControlFlow::Continue(()))
        })?;
        for (topic, partition) in targets {
            let checked = super::rules::check(&topic, partition, cluster.partitions(&topic)?);
            plan.problems.extend(checked.err().map(|refused| refused.to_string()));
        }
        Ok(plan)
    }

    /// For people: how many messages go where, and what is left.
    pub(crate) fn print(
        &self,
        limit: Option<u64>,
        max_replays: u64,
        out: &mut impl Write,
    ) -> Result<()> {
        let all = self.counts.replayed;
        let first = match limit {
            Some(limit) if limit < all => format!("; of these the first {limit} (--limit)"),
            _ => String::new(),
        };
        writeln!(out, "{} to replay{first}", count(all, "message"))?;
        let row = |(topic, destination): (&String, &Destination)| {
            let list: Vec<String> = destination.partitions.iter().map(i32::to_string).collect();
            let partitions = match list.len() {
                0 => "partitions by key".to_owned(),
                1 => format!("partition {}", list[0]),
                _ => format!("partitions {}", list.join(", ")),
            };
            vec![
                format!("  {}", destination.messages),
                format!("to {}", one_line(topic)),
                partitions,
            ]
        };
        let rows: Vec<_> = self.goes_to.iter().map(row).collect();
        for line in table(&rows, &[0]) {
            writeln!(out, "{line}")?;
        }
        for line in self.counts.left(max_replays) {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_how_many_messages_go_where() {
        let counts = Counts { replayed: 12, filtered_out: 2, ..Counts::default() };
        let mut plan = Plan { counts, ..Plan::default() };
        let partitions = BTreeSet::from([0, 3]);
        plan.goes_to.insert("orders".into(), Destination { messages: 10, partitions });
        plan.goes_to.insert("x".into(), Destination { messages: 2, partitions: BTreeSet::new() });
        let mut out = Vec::new();
        plan.print(Some(5), 3, &mut out).unwrap();
        let expected = "12 messages to replay; of these the first 5 (--limit)\n  10  to orders  partitions 0, 3\n   2  to x       \
                        partitions by key\n2 filtered out\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
