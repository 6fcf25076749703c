//! [`Division`]: finds the messages of a batch that cannot be processed.
//!
//! Place in the data path: behind a batch that failed. [`recovery`](super::recovery) processes the parts that this
//! says, in order, and tells which of them failed.
//!
//! A part that fails is divided into halves, until a message that fails stands alone. Each level of halves costs two
//! calls, so one message among n is found with at most 2 · log2(n) of them, rounded up; where the error names the
//! message, with two.

use std::ops::Range;

/// Consecutive messages of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) range: Range<usize>,
    /// How often its messages have been processed.
    pub(crate) calls: u32,
    /// It has not been divided: the batch as a whole, or what of it is not held in a quarantine, which is processed for the
    /// first time or again.
    pub(crate) is_whole: bool,
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Work<R> {
    Process(Part),
    /// The message with this index fails by itself, or was named.
    Reject(usize, R),
}

/// What is left of the batch, from its end to its beginning. `R` says why a message is rejected.
#[derive(Debug)]
pub(crate) struct Division<R> {
    left: Vec<Work<R>>,
}

impl<R> Division<R> {
    /// Nothing is left to do: of a batch that has just failed as a whole.
    pub(crate) fn new() -> Self {
        Self { left: Vec::new() }
    }

    pub(crate) fn next(&mut self) -> Option<Work<R>> {
        self.left.pop()
    }

    /// The part is processed again as it is.
    pub(crate) fn again(&mut self, part: Part) {
        self.left.push(Work::Process(part));
    }

    /// The part failed. If its message at the index `culprit` is named, that one is taken out; otherwise the part is
    /// divided, or the message rejected if it stands alone.
    pub(crate) fn divide(&mut self, part: &Part, culprit: Option<usize>, reason: R) {
        let Range { start, end } = part.range;
        match culprit.filter(|index| part.range.contains(index)) {
            Some(index) => {
                self.process(part, index + 1..end);
                self.left.push(Work::Reject(index, reason));
                self.process(part, start..index);
            }
            None if end - start == 1 && !part.is_whole => {
                self.left.push(Work::Reject(start, reason));
            }
            // Once more: what failed by chance is not rejected.
            None if end - start == 1 => self.process(part, start..end),
            None => {
                let middle = start + (end - start) / 2;
                self.process(part, middle..end);
                self.process(part, start..middle);
            }
        }
    }

    /// Of this part, these are rejected and the others processed.
    pub(crate) fn around(
        &mut self,
        part: &Part,
        culprits: impl DoubleEndedIterator<Item = (usize, R)>,
    ) {
        let Range { start, mut end } = part.range;
        for (index, reason) in culprits.rev() {
            self.push(part, index + 1..end);
            self.left.push(Work::Reject(index, reason));
            end = index;
        }
        self.push(part, start..end);
    }

    fn process(&mut self, of: &Part, range: Range<usize>) {
        self.push(&Part { is_whole: false, ..of.clone() }, range);
    }

    fn push(&mut self, of: &Part, range: Range<usize>) {
        if !range.is_empty() {
            self.left.push(Work::Process(Part { range, ..of.clone() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// What came of it.
    #[derive(Debug, Default, PartialEq)]
    struct Outcome {
        /// Without the first.
        calls: usize,
        processed: Vec<usize>,
        rejected: Vec<usize>,
    }

    /// Divides a batch of so many messages that failed once. `fails` is asked for each part, and whether it names the
    /// culprit.
    fn divide(
        len: usize,
        names: bool,
        mut fails: impl FnMut(&Range<usize>) -> Option<usize>,
    ) -> Outcome {
        let mut division = Division::new();
        let whole = Part { range: 0..len, calls: 1, is_whole: true };
        let culprit = fails(&whole.range);
        division.divide(&whole, culprit.filter(|_| names), ());
        let mut outcome = Outcome::default();
        let mut next = 0;
        while let Some(work) = division.next() {
            match work {
                Work::Reject(index, ()) => {
                    assert_eq!(index, next, "in order");
                    next += 1;
                    outcome.rejected.push(index);
                }
                Work::Process(mut part) => {
                    assert_eq!(part.range.start, next, "in order, and each once");
                    outcome.calls += 1;
                    part.calls += 1;
                    if let Some(culprit) = fails(&part.range) {
                        division.divide(&part, names.then_some(culprit), ());
                    } else {
                        next = part.range.end;
                        outcome.processed.extend(part.range);
                    }
                }
            }
        }
        assert_eq!(next, len);
        outcome
    }

    /// The first bad message of a part.
    fn first<'a>(bad: &'a BTreeSet<usize>) -> impl Fn(&Range<usize>) -> Option<usize> + 'a {
        |part| bad.range(part.clone()).next().copied()
    }

    fn bound(len: usize) -> usize {
        2 * len.next_power_of_two().ilog2() as usize + 2
    }

    fn check(len: usize, bad: &BTreeSet<usize>) {
        for names in [false, true] {
            let outcome = divide(len, names, first(bad));
            assert_eq!(outcome.rejected, bad.iter().copied().collect::<Vec<_>>());
            assert_eq!(outcome.processed.len() + outcome.rejected.len(), len);
            let most = if names { 2 } else { bound(len) } * bad.len();
            assert!(outcome.calls <= most, "{} calls for {len}, {bad:?}", outcome.calls);
        }
    }

    #[test]
    fn one_of_a_thousand_is_found_with_twenty_calls() {
        for bad in [0, 1, 499, 500, 501, 998, 999] {
            let outcome = divide(1000, false, first(&[bad].into()));
            assert_eq!((outcome.rejected, outcome.calls <= 20), (vec![bad], true), "{bad}");
        }
    }

    #[test]
    fn all_of_a_thousand_or_some_in_a_row_are_found() {
        check(1000, &(0..1000).collect());
        check(1000, &(300..310).collect());
        check(1000, &(0..1000).step_by(3).collect());
    }

    #[test]
    fn what_fails_only_beside_another_is_not_rejected() {
        let outcome =
            divide(100, false, |part| (part.contains(&20) && part.contains(&70)).then_some(70));
        assert_eq!((outcome.calls, outcome.rejected.len(), outcome.processed.len()), (2, 0, 100));
    }

    #[test]
    fn what_fails_only_the_first_time_is_not_rejected() {
        for len in [1, 2, 100] {
            let mut calls = 0;
            let outcome = divide(len, false, |_| {
                calls += 1;
                (calls == 1).then_some(0)
            });
            assert_eq!((outcome.rejected.len(), outcome.processed.len()), (0, len));
        }
    }

    #[test]
    fn what_is_known_to_fail_is_not_processed() {
        let mut division = Division::new();
        let whole = Part { range: 0..6, calls: 1, is_whole: false };
        division.around(&whole, [(0, ()), (3, ()), (4, ())].into_iter());
        let work = std::iter::from_fn(|| division.next()).map(|work| match work {
            Work::Reject(index, ()) => format!("reject {index}"),
            Work::Process(part) => format!("process {:?}", part.range),
        });
        let expected = ["reject 0", "process 1..3", "reject 3", "reject 4", "process 5..6"];
        assert_eq!(work.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_name_that_is_not_in_the_part_does_not_count() {
        let mut division = Division::new();
        division.divide(&Part { range: 0..4, calls: 1, is_whole: true }, Some(4), ());
        assert!(matches!(division.next(), Some(Work::Process(part)) if part.range == (0..2)));
    }

    proptest! {
        #[test]
        fn exactly_the_bad_ones_are_rejected_within_the_bound(
            len in 1usize..300,
            bad in prop::collection::btree_set(0usize..300, 1..40),
        ) {
            let bad: BTreeSet<usize> = bad.into_iter().filter(|index| *index < len).collect();
            if !bad.is_empty() {
                check(len, &bad);
            }
        }
    }
}
