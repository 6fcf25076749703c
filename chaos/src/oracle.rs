//! The judge: from what was sent and what is there now, which promises were broken. It knows nothing of the
//! library, and asks nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::id::{Aggregate, Id};

/// What has to hold in every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Promise {
    Acknowledged,
    Ledger,
    Output,
    Invented,
    Order,
    Letters,
    OnlyPoison,
    Aggregates,
    Copies,
    NeverBack,
    NeverAhead,
    Finished,
    Progress,
    EndsInTime,
    StaysUp,
    NoPanic,
    Memory,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acknowledged => "what the brokers acknowledged is in the input",
            Self::Ledger => "every good message is in the ledger",
            Self::Output => "every good message was sent on",
            Self::Invented => "nothing was sent on that was not in the input, or was malformed",
            Self::Order => "messages of a key are first sent on in their order",
            Self::Letters => "every malformed message has a letter with its key and value",
            Self::OnlyPoison => "only malformed messages have letters",
            Self::Aggregates => "the aggregate of every key is that of its last message",
            Self::Copies => "no message is sent on more often than faults explain",
            Self::NeverBack => "committed offsets never go back",
            Self::NeverAhead => "what is committed is in the ledger",
            Self::Finished => "at the end everything is committed",
            Self::Progress => "all partitions go on in time after a fault",
            Self::EndsInTime => "a worker ends in order and in time after SIGTERM",
            Self::StaysUp => "no worker ends by itself",
            Self::NoPanic => "no worker panics",
            Self::Memory => "no worker takes more memory than allowed",
        })
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Broken {
    pub(crate) promise: Promise,
    /// How often.
    pub(crate) count: usize,
    /// The first case.
    pub(crate) example: String,
}

/// A change of a partition's committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Commit {
    /// Milliseconds since the run began.
    pub(crate) at: u64,
    pub(crate) partition: usize,
    pub(crate) offset: i64,
}

/// All that is judged.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// What the producer was told is written.
    pub(crate) acknowledged: Vec<Id>,
    /// What the input topic holds.
    pub(crate) input: Vec<Id>,
    /// Which ids the ledger has.
    pub(crate) ledger: BTreeSet<Id>,
    /// What was sent on, partition by partition in the order of offsets; `None` for what nobody can have sent.
    pub(crate) output: Vec<Option<Id>>,
    /// Keys and values of letters.
    pub(crate) letters: Vec<(Vec<u8>, Vec<u8>)>,
    /// Of each key.
    pub(crate) aggregates: Vec<Aggregate>,
    /// In the order in which they were seen.
    pub(crate) commits: Vec<Commit>,
    /// Found committed while the ledger did not have it.
    pub(crate) ahead: Vec<Id>,
    /// Where the partitions of the input end.
    pub(crate) ends: Vec<i64>,
    /// So many copies of a message are explained by faults.
    pub(crate) most_copies: u64,
}

/// What was counted.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) messages: u64,
    pub(crate) malformed: u64,
    pub(crate) letters: u64,
    /// Good messages that are not in the ledger.
    pub(crate) lost: u64,
    /// Good messages that were not sent on.
    pub(crate) not_sent_on: u64,
    /// Copies beyond the first of each message.
    pub(crate) doubled: u64,
    /// The most copies of one message.
    pub(crate) most_copies: u64,
    pub(crate) disordered: u64,
    /// By how much plain counters are too high, all together.
    pub(crate) counted_twice: u64,
    /// By how much plain counters are too low, all together: a frozen worker wrote late.
    pub(crate) not_counted: u64,
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) counts: Counts,
    pub(crate) broken: Vec<Broken>,
}

/// Collects what is broken.
#[derive(Default)]
struct Findings(Vec<Broken>);

impl Findings {
    /// Each item is a case.
    fn add(&mut self, promise: Promise, cases: impl IntoIterator<Item = String>) -> u64 {
        let mut cases = cases.into_iter();
        let Some(example) = cases.next() else { return 0 };
        let count = 1 + cases.count();
        self.0.push(Broken { promise, count, example });
        count as u64
    }
}

/// Compares everything.
pub(crate) fn judge(evidence: &Evidence) -> Judgement {
    let input: BTreeSet<Id> = evidence.input.iter().copied().collect();
    let mut findings = Findings::default();
    let gone = evidence.acknowledged.iter().filter(|id| !input.contains(id));
    findings.add(Promise::Acknowledged, gone.map(Id::to_string));
    let (poison, good): (Vec<Id>, Vec<Id>) = input.iter().partition(|id| id.is_poison());
    let mut counts = Counts {
        messages: evidence.input.len() as u64,
        malformed: poison.len() as u64,
        letters: evidence.letters.len() as u64,
        ..Counts::default()
    };
    let lost = good.iter().filter(|id| !evidence.ledger.contains(id)).map(Id::to_string);
    counts.lost = findings.add(Promise::Ledger, lost);
    check_output(evidence, &input, &good, &mut findings, &mut counts);
    check_letters(evidence, &poison, &mut findings);
    check_aggregates(evidence, &good, &mut findings, &mut counts);
    check_commits(evidence, &mut findings);
    Judgement { counts, broken: findings.0 }
}

fn check_output(
    evidence: &Evidence,
    input: &BTreeSet<Id>,
    good: &[Id],
    findings: &mut Findings,
    counts: &mut Counts,
) {
    let mut copies: BTreeMap<Id, u64> = BTreeMap::new();
    let mut highest: BTreeMap<u32, u64> = BTreeMap::new();
    let (mut late, mut invented) = (Vec::new(), Vec::new());
    for id in &evidence.output {
        let Some(id) = id.filter(|id| input.contains(id) && !id.is_poison()) else {
            invented.push(id.map_or_else(|| "unreadable".to_owned(), |id| id.to_string()));
            continue;
        };
        let count = copies.entry(id).or_default();
        *count += 1;
        if *count == 1 {
            let before = highest.insert(id.key, id.number);
            if let Some(before) = before.filter(|before| *before > id.number) {
                highest.insert(id.key, before);
                late.push(format!("{id} behind number {before}"));
            }
        }
    }
    let missing = good.iter().filter(|id| !copies.contains_key(id)).map(Id::to_string);
    counts.not_sent_on = findings.add(Promise::Output, missing);
    findings.add(Promise::Invented, invented);
    counts.disordered = findings.add(Promise::Order, late);
    counts.doubled = copies.values().map(|count| count - 1).sum();
    counts.most_copies = copies.values().copied().max().unwrap_or(0);
    let many = copies.iter().filter(|(_, count)| **count > evidence.most_copies);
    findings.add(Promise::Copies, many.map(|(id, count)| format!("{id} came {count} times")));
}

fn check_letters(evidence: &Evidence, poison: &[Id], findings: &mut Findings) {
    let letters: BTreeSet<(&[u8], &[u8])> =
        evidence.letters.iter().map(|(key, value)| (&**key, &**value)).collect();
    let expected: Vec<(String, String)> =
        poison.iter().map(|id| (id.key_text(), id.value())).collect();
    let expected: BTreeSet<(&[u8], &[u8])> =
        expected.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).collect();
    let shown = |(_, value): &(&[u8], &[u8])| String::from_utf8_lossy(value).into_owned();
    findings.add(Promise::Letters, expected.difference(&letters).map(shown));
    findings.add(Promise::OnlyPoison, letters.difference(&expected).map(shown));
}

fn check_aggregates(
    evidence: &Evidence,
    good: &[Id],
    findings: &mut Findings,
    counts: &mut Counts,
) {
    let mut expected: BTreeMap<u32, Aggregate> = BTreeMap::new();
    for id in good {
        expected.entry(id.key).or_default().add(id.number);
    }
    let mut wrong = Vec::new();
    for (key, expected) in expected {
        let index = usize::try_from(key).ok();
        let found = index.and_then(|index| evidence.aggregates.get(index));
        let found = found.copied().unwrap_or_default();
        if found.next != expected.next {
            wrong.push(format!("key {key}: {} instead of {}", found.next, expected.next));
        }
        counts.counted_twice += found.count.saturating_sub(expected.count);
        counts.not_counted += expected.count.saturating_sub(found.count);
    }
    findings.add(Promise::Aggregates, wrong);
}

fn check_commits(evidence: &Evidence, findings: &mut Findings) {
    let mut last: Vec<i64> = evidence.ends.iter().map(|_| 0).collect();
    let mut back = Vec::new();
    for commit in &evidence.commits {
        let Some(last) = last.get_mut(commit.partition) else { continue };
        if commit.offset < *last {
            let Commit { at, partition, offset } = commit;
            back.push(format!(
                "partition {partition}: {offset} after {last}, {at} ms after the start"
            ));
        }
        *last = commit.offset;
    }
    findings.add(Promise::NeverBack, back);
    findings.add(Promise::NeverAhead, evidence.ahead.iter().map(Id::to_string));
    let open = evidence.ends.iter().zip(&last).enumerate().filter(|(_, (end, last))| end != last);
    let open = open.map(|(p, (end, last))| format!("partition {p}: {last} committed of {end}"));
    findings.add(Promise::Finished, open);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run in which all is well.
    fn well() -> Evidence {
        let ids: Vec<Id> =
            (0..200).flat_map(|number| [0, 1].map(|key| Id { key, number })).collect();
        let good: Vec<Id> = ids.iter().copied().filter(|id| !id.is_poison()).collect();
        let letter = |id: &Id| (id.key_text().into_bytes(), id.value().into_bytes());
        let letters: Vec<_> = ids.iter().filter(|id| id.is_poison()).map(letter).collect();
        assert!(letters.len() >= 2);
        let mut aggregates = vec![Aggregate::default(); 2];
        good.iter().for_each(|id| aggregates[id.key as usize].add(id.number));
        let commit = |at, partition, offset| Commit { at, partition, offset };
        Evidence {
            acknowledged: ids.clone(),
            ledger: good.iter().copied().collect(),
            output: good.into_iter().map(Some).collect(),
            input: ids,
            letters,
            aggregates,
            commits: vec![commit(1, 0, 100), commit(1, 1, 200), commit(2, 0, 200)],
            ahead: Vec::new(),
            ends: vec![200, 200],
            most_copies: 2,
        }
    }

    fn broken(change: impl FnOnce(&mut Evidence)) -> Vec<Promise> {
        let mut evidence = well();
        change(&mut evidence);
        judge(&evidence).broken.into_iter().map(|broken| broken.promise).collect()
    }

    /// A good id.
    fn id(number: u64) -> Id {
        let id = Id { key: 0, number };
        assert!(!id.is_poison());
        id
    }

    fn place(evidence: &Evidence, number: u64) -> usize {
        evidence.output.iter().position(|found| *found == Some(id(number))).unwrap()
    }

    #[test]
    fn a_good_run_breaks_nothing() {
        let judgement = judge(&well());
        assert_eq!(judgement.broken, []);
        let counts = judgement.counts;
        assert_eq!((counts.messages, counts.lost, counts.doubled), (400, 0, 0));
        assert_eq!((counts.malformed, counts.most_copies), (counts.letters, 1));
    }

    #[test]
    fn a_message_that_the_brokers_lost_is_found() {
        let late = Id { key: 0, number: 999 };
        assert_eq!(broken(|e| e.acknowledged.push(late)), [Promise::Acknowledged]);
    }

    #[test]
    fn a_message_that_is_not_in_the_ledger_is_found() {
        let change = |e: &mut Evidence| assert!(e.ledger.remove(&id(7)));
        assert_eq!(broken(change), [Promise::Ledger]);
    }

    #[test]
    fn a_message_that_was_not_sent_on_is_found() {
        assert_eq!(broken(|e| e.output.retain(|found| *found != Some(id(7)))), [Promise::Output]);
    }

    #[test]
    fn what_nobody_sent_is_found() {
        assert_eq!(broken(|e| e.output.push(None)), [Promise::Invented]);
        let poison = *well().input.iter().find(|id| id.is_poison()).unwrap();
        assert_eq!(broken(|e| e.output.push(Some(poison))), [Promise::Invented]);
        assert_eq!(broken(|e| e.output.push(Some(id(5000)))), [Promise::Invented]);
    }

    #[test]
    fn a_wrong_order_is_found_and_a_repetition_is_not_one() {
        let swap = |e: &mut Evidence| {
            let (a, b) = (place(e, 7), place(e, 8));
            e.output.swap(a, b);
        };
        assert_eq!(broken(swap), [Promise::Order]);
        let repeat = |e: &mut Evidence| {
            let again = e.output[place(e, 7)..].to_vec();
            e.output.extend(again);
        };
        assert_eq!(broken(repeat), []);
    }

    #[test]
    fn more_copies_than_explained_are_found() {
        assert_eq!(broken(|e| e.output.extend([Some(id(7)); 2])), [Promise::Copies]);
    }

    #[test]
    fn a_missing_and_a_changed_letter_are_found() {
        assert_eq!(broken(|e| e.letters.truncate(1)), [Promise::Letters]);
        let change = |e: &mut Evidence| e.letters[0].1.push(b'!');
        assert_eq!(broken(change), [Promise::Letters, Promise::OnlyPoison]);
        let good = |e: &mut Evidence| e.letters.push((b"k0".to_vec(), b"k0/7".to_vec()));
        assert_eq!(broken(good), [Promise::OnlyPoison]);
    }

    #[test]
    fn a_wrong_aggregate_is_found_and_a_wrong_count_is_told() {
        assert_eq!(broken(|e| e.aggregates[1].next -= 1), [Promise::Aggregates]);
        assert_eq!(broken(|e| e.aggregates.truncate(1)), [Promise::Aggregates]);
        let mut evidence = well();
        evidence.aggregates[0].count += 3;
        evidence.aggregates[1].count -= 2;
        let judgement = judge(&evidence);
        assert_eq!(judgement.broken, []);
        assert_eq!((judgement.counts.counted_twice, judgement.counts.not_counted), (3, 2));
    }

    #[test]
    fn an_offset_that_goes_back_is_found() {
        let back = |e: &mut Evidence| e.commits[0].offset = 201;
        assert_eq!(broken(back), [Promise::NeverBack]);
    }

    #[test]
    fn a_commit_before_the_ledger_is_found() {
        assert_eq!(broken(|e| e.ahead.push(id(7))), [Promise::NeverAhead]);
    }

    #[test]
    fn what_is_not_committed_or_is_beyond_the_end_is_found() {
        assert_eq!(broken(|e| e.ends[1] += 1), [Promise::Finished]);
        assert_eq!(broken(|e| e.ends[1] -= 1), [Promise::Finished]);
    }
}
