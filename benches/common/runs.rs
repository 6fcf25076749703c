//! All runs of all cases, which take turns.

use std::fmt;

use super::BoxError;
use super::measure::Spread;

/// Something that is measured.
pub(crate) trait Case: Copy + PartialEq + fmt::Display {
    /// The raw one that it is measured against; none for raw ones.
    fn ceiling(self) -> Option<Self>;

    /// Whether the two do the same work, so that they run one after the other.
    fn is_like(self, other: Self) -> bool;
}

/// The size of messages' and stores' values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Small,
    Large,
}

impl Size {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Small => 100,
            Self::Large => 1024,
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Small => "100B",
            Self::Large => "1KiB",
        }
    }
}

/// Per case one entry a round, `None` for a run that failed.
pub(crate) struct Runs<C, R> {
    runs: Vec<(C, Vec<Option<R>>)>,
    failures: Vec<String>,
}

impl<C: Case, R> Runs<C, R> {
    /// Those that are alike have to stand together.
    pub(crate) fn new(cases: &[C]) -> Self {
        let runs = cases.iter().map(|case| (*case, Vec::new())).collect();
        Self { runs, failures: Vec::new() }
    }

    /// Runs every case once, those that are alike in one call, which returns as many outcomes.
    pub(crate) fn round(
        &mut self,
        round: u32,
        mut run: impl FnMut(&[C]) -> Vec<Result<R, BoxError>>,
    ) {
        for group in self.runs.chunk_by_mut(|(a, _), (b, _)| a.is_like(*b)) {
            // Each round begins with another one, so that nothing has a lasting advantage of its
            // place: the first runs while the server cleans up what went before.
            let (behind, front) = group.split_at_mut(round as usize % group.len());
            let mut turns: Vec<&mut (C, Vec<Option<R>>)> = front.iter_mut().chain(behind).collect();
            let cases: Vec<C> = turns.iter().map(|(case, _)| *case).collect();
            for ((case, runs), outcome) in turns.iter_mut().map(|it| &mut **it).zip(run(&cases)) {
                if let Err(error) = &outcome {
                    self.failures.push(format!("{case}, round {round}: {error}"));
                }
                runs.push(outcome.ok());
            }
        }
    }

    pub(crate) fn cases(&self) -> impl Iterator<Item = C> {
        self.runs.iter().map(|(case, _)| *case)
    }

    /// Each group's raw ones first.
    pub(crate) fn in_order(&self) -> Vec<C> {
        let group = |case: &C| self.cases().position(|other| other.is_like(*case));
        let mut ordered: Vec<C> = self.cases().collect();
        ordered.sort_by_key(|case| (group(case), case.ceiling().is_some()));
        ordered
    }

    pub(crate) fn of(&self, case: C) -> &[Option<R>] {
        let found = self.runs.iter().find(|(known, _)| *known == case);
        found.map_or(&[], |(_, runs)| runs)
    }

    /// Of the runs that went well.
    pub(crate) fn spread(&self, case: C, value: &dyn Fn(&R) -> f64) -> Option<Spread> {
        Spread::of(self.of(case).iter().flatten().map(value))
    }

    /// Round by round, the case's value to its ceiling's.
    pub(crate) fn ratio(&self, case: C, value: &dyn Fn(&R) -> f64) -> Option<Spread> {
        let pairs = self.of(case).iter().zip(self.of(case.ceiling()?));
        let ratios =
            pairs.filter_map(|(ours, raw)| Some(value(ours.as_ref()?) / value(raw.as_ref()?)));
        Spread::of(ratios)
    }

    /// Round by round, the case's value less its ceiling's.
    pub(crate) fn difference(&self, case: C, value: &dyn Fn(&R) -> f64) -> Option<Spread> {
        let pairs = self.of(case).iter().zip(self.of(case.ceiling()?));
        Spread::of(
            pairs.filter_map(|(ours, raw)| Some(value(ours.as_ref()?) - value(raw.as_ref()?))),
        )
    }

    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }
}
