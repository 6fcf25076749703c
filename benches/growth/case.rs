//! What is measured: one step of a series, by one of its contestants.

use std::fmt;

use crate::common::runs;
use crate::series::{Input, Series, Step, Told, Who};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) series: &'static Series,
    pub(crate) step: &'static Step,
    pub(crate) who: Who,
}

impl Case {
    /// Every case, in groups of the same series.
    pub(crate) fn all() -> Vec<Self> {
        let steps = Series::ALL.iter().flat_map(|series| {
            series.steps.iter().flat_map(move |step| {
                series.contestants.iter().map(move |who| Self { series, step, who: *who })
            })
        });
        steps.collect()
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|case| case.to_string() == name)
    }

    pub(crate) fn input(self) -> Input {
        self.step.input
    }
}

impl runs::Case for Case {
    fn ceiling(self) -> Option<Self> {
        let is_ours = self.who != Who::Raw && self.series.contestants.contains(&Who::Raw);
        is_ours.then_some(Self { who: Who::Raw, ..self })
    }

    /// The same contestant at the first step.
    fn base(self) -> Option<Self> {
        let first = self.series.steps.first()?;
        let grows = matches!(self.series.told, Told::Growth | Told::Rejected) && self.step != first;
        grows.then_some(Self { step: first, ..self })
    }

    /// All steps of a series run one after the other.
    fn is_like(self, other: Self) -> bool {
        self.series == other.series
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.series.name, self.step.label, self.who)
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Ours => "ours",
            Self::OursOwned => "ours-owned",
            Self::OursGroup => "ours-group",
        })
    }
}
