//! All runs of all cases, which take turns.

use std::fmt;

use super::BoxError;
use super::measure::Spread;
use super::progress::Progress;

/// Something that is measured.
pub(crate) trait Case: Copy + PartialEq + fmt::Display {
    /// The raw one that it is measured against; none for raw ones.
    fn ceiling(self) -> Option<Self>;

    /// Another one of its own kind that it is compared with, too.
    fn base(self) -> Option<Self> {
        None
    }

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

/// What is run.
#[derive(Debug, Clone)]
pub(crate) struct Plan<C> {
    /// Empty if no case needs them.
    pub(crate) brokers: String,
    pub(crate) cases: Vec<C>,
    pub(crate) rounds: u32,
    pub(crate) quick: bool,
}

/// What was run, and what came out.
pub(crate) struct Results<C, R> {
    pub(crate) plan: Plan<C>,
    pub(crate) runs: Runs<C, R>,
}

impl<C: Case> Plan<C> {
    pub(crate) fn progress(&self) -> Result<Progress, BoxError> {
        Progress::new(self.cases.len() as u64 * u64::from(self.rounds))
    }

    /// Every case once a round, one after the other.
    pub(crate) fn run<R>(
        &self,
        progress: &Progress,
        mut run: impl FnMut(C) -> Result<R, BoxError>,
    ) -> Results<C, R> {
        self.run_alike(progress, |cases| {
            let run = |case: &C| {
                progress.begin(case);
                let outcome = run(*case);
                progress.end();
                outcome
            };
            cases.iter().map(run).collect()
        })
    }

    /// Every case once a round, those that are alike in one call, which returns as many outcomes.
    pub(crate) fn run_alike<R>(
        &self,
        progress: &Progress,
        mut run: impl FnMut(&[C]) -> Vec<Result<R, BoxError>>,
    ) -> Results<C, R> {
        let mut runs = Runs::new(&self.cases);
        for round in 1..=self.rounds {
            progress.note(&format!("round {round} of {}", self.rounds));
            runs.round(round, &mut run);
        }
        progress.clear();
        Results { plan: self.clone(), runs }
    }
}

/// Per case one entry a round, `None` for a run that failed.
pub(crate) struct Runs<C, R> {
    runs: Vec<(C, Vec<Option<R>>)>,
    failures: Vec<String>,
}

impl<C: Case, R> Runs<C, R> {
    /// Those that are alike have to stand together.
    fn new(cases: &[C]) -> Self {
        let runs = cases.iter().map(|case| (*case, Vec::new())).collect();
        Self { runs, failures: Vec::new() }
    }

    /// Runs every case once, those that are alike in one call, which returns as many outcomes.
    fn round(&mut self, round: u32, mut run: impl FnMut(&[C]) -> Vec<Result<R, BoxError>>) {
        for group in self.runs.chunk_by_mut(|(a, _), (b, _)| a.is_like(*b)) {
            // Each round begins with another one, and every second goes the other way, so that nothing has a lasting
            // advantage of its place: it runs while the server cleans up what went before.
            let (behind, front) = group.split_at_mut(round as usize % group.len());
            let mut turns: Vec<&mut (C, Vec<Option<R>>)> = front.iter_mut().chain(behind).collect();
            if round.is_multiple_of(2) {
                turns.reverse();
            }
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
        self.ratio_to(case.ceiling()?, case, value)
    }

    /// Round by round, the case's value to another one's.
    pub(crate) fn ratio_to(&self, other: C, case: C, value: &dyn Fn(&R) -> f64) -> Option<Spread> {
        let pairs = self.of(case).iter().zip(self.of(other));
        let ratios =
            pairs.filter_map(|(it, other)| Some(value(it.as_ref()?) / value(other.as_ref()?)));
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
