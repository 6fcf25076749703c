//! What has become of the letters, counted when it is certain: an offset counts when it is finished, that is, when all
//! that was sent for it and for those before it is acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use crate::text::count;

/// What was done with a message of the dead letter topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Replayed,
    FilteredOut,
    Exhausted,
    Reference,
    NotALetter,
}

/// How many of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) replayed: u64,
    pub(crate) filtered_out: u64,
    pub(crate) exhausted: u64,
    pub(crate) references: u64,
    pub(crate) not_letters: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Replayed => &mut self.replayed,
            Outcome::FilteredOut => &mut self.filtered_out,
            Outcome::Exhausted => &mut self.exhausted,
            Outcome::Reference => &mut self.references,
            Outcome::NotALetter => &mut self.not_letters,
        };
        *counter += 1;
    }

    pub(crate) fn all(&self) -> u64 {
        self.replayed + self.filtered_out + self.exhausted + self.references + self.not_letters
    }

    /// What was left, for people; nothing if nothing was.
    pub(crate) fn left(&self, max_replays: u64) -> Vec<String> {
        let mut left = Vec::new();
        if self.filtered_out > 0 {
            left.push(format!("{} filtered out", self.filtered_out));
        }
        if self.exhausted > 0 {
            let often = count(max_replays, "time");
            left.push(format!(
                "{} left: replayed {often} or more already (--max-replays)",
                self.exhausted
            ));
        }
        if self.references > 0 {
            left.push(format!(
                "{} left: letters without the message, of share groups that don't copy it \
                 (errors.deadletterqueue.copy.record.enable)",
                self.references
            ));
        }
        if self.not_letters > 0 {
            left.push(format!("{} not letters", self.not_letters));
        }
        left
    }
}

/// Of the partitions of this process.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: Counts,
    /// Handed over and not known to be finished, by partition, in order.
    open: BTreeMap<i32, VecDeque<(i64, Outcome)>>,
    /// Partitions with a message beyond the end that they had at the beginning.
    at_end: BTreeSet<i32>,
}

impl Tally {
    pub(crate) fn note(&mut self, partition: i32, offset: i64, outcome: Outcome) {
        let open = self.open.entry(partition).or_default();
        // The partition was taken away and came back: it begins at the last commit again.
        while open.back().is_some_and(|(last, _)| *last >= offset) {
            open.pop_back();
        }
        open.push_back((offset, outcome));
    }

    /// All before this offset is finished.
    pub(crate) fn finished(&mut self, partition: i32, next: i64) {
        let Some(open) = self.open.get_mut(&partition) else { return };
        while let Some((_, outcome)) = open.pop_front_if(|(offset, _)| *offset < next) {
            self.counts.add(outcome);
        }
    }

    pub(crate) fn reached_end(&mut self, partition: i32) {
        self.at_end.insert(partition);
    }

    pub(crate) fn is_at_end(&self, partition: i32) -> bool {
        self.at_end.contains(&partition)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Messages that were handed over for sending, and of which nobody knows whether they have arrived.
    pub(crate) fn unconfirmed(&self) -> u64 {
        let open = self.open.values().flatten();
        open.filter(|(_, outcome)| *outcome == Outcome::Replayed).count() as u64
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replayed {}", count(self.replayed, "message"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_counts_when_it_is_finished() {
        let mut tally = Tally::default();
        tally.note(0, 5, Outcome::Replayed);
        tally.note(0, 7, Outcome::NotALetter);
        tally.note(0, 8, Outcome::Replayed);
        tally.note(1, 5, Outcome::Exhausted);
        tally.finished(0, 5);
        assert_eq!((tally.counts(), tally.unconfirmed()), (Counts::default(), 2));
        tally.finished(0, 8);
        let expected = Counts { replayed: 1, not_letters: 1, ..Counts::default() };
        assert_eq!((tally.counts(), tally.unconfirmed()), (expected, 1));
        tally.finished(1, 6);
        tally.finished(0, 100);
        tally.finished(2, 100);
        let expected = Counts { replayed: 2, not_letters: 1, exhausted: 1, ..Counts::default() };
        assert_eq!((tally.counts(), tally.unconfirmed()), (expected, 0));
        let left = tally.counts().left(3);
        assert_eq!(
            left,
            ["1 left: replayed 3 times or more already (--max-replays)", "1 not letters"]
        );
    }

    #[test]
    fn a_letter_that_comes_again_counts_once() {
        let mut tally = Tally::default();
        for offset in [5, 6, 7, 6, 7] {
            tally.note(0, offset, Outcome::Replayed);
        }
        tally.finished(0, 8);
        assert_eq!(tally.counts().replayed, 3);
    }
}
