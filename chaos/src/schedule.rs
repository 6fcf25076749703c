//! Which fault comes when: drawn from a seed, so that the same seed gives the same faults.

use std::time::Duration;

use crate::args::Fault;
use crate::worker::SESSION;

/// One fault to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// Nothing is done for so long before.
    pub(crate) quiet: Duration,
    pub(crate) fault: Fault,
    /// Chooses the victim among those that are there.
    pub(crate) choice: u64,
    /// From the fault to its end.
    pub(crate) lasts: Duration,
}

/// An endless sequence in which every kind comes before one comes again.
#[derive(Debug)]
pub(crate) struct Schedule {
    random: Random,
    kinds: Vec<Fault>,
    bag: Vec<Fault>,
}

impl Schedule {
    pub(crate) fn new(seed: u64, kinds: &[Fault]) -> Self {
        Self { random: Random(seed), kinds: kinds.to_vec(), bag: Vec::new() }
    }

    /// `None` if there are no kinds.
    pub(crate) fn draw(&mut self) -> Option<Step> {
        if self.bag.is_empty() {
            self.bag.clone_from(&self.kinds);
        }
        let count = u64::try_from(self.bag.len()).ok().filter(|count| *count > 0)?;
        let index = usize::try_from(self.random.below(count)).unwrap_or(0);
        let fault = self.bag.swap_remove(index);
        let quiet = self.between(1000, 4000);
        let choice = self.random.next();
        let lasts = match fault {
            Fault::KillWorker => self.between(0, 8000),
            Fault::FreezeWorker => SESSION + self.between(2000, 6000),
            Fault::KillRedis => self.between(500, 6000),
            Fault::FreezeRedis => self.between(3000, 8000),
            Fault::EndWorker | Fault::KillBroker | Fault::Join | Fault::Leave => Duration::ZERO,
        };
        Some(Step { quiet, fault, choice, lasts })
    }

    fn between(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(low + self.random.below(high - low))
    }
}

/// SplitMix64.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    fn steps(seed: u64, count: usize) -> Vec<Step> {
        let mut schedule = Schedule::new(seed, Fault::value_variants());
        (0..count).filter_map(|_| schedule.draw()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        assert_eq!(steps(7, 50), steps(7, 50));
        assert_ne!(steps(7, 50), steps(8, 50));
    }

    #[test]
    fn every_kind_comes_before_one_comes_again() {
        let kinds = Fault::value_variants().len();
        for round in steps(1, 4 * kinds).chunks(kinds) {
            let mut faults: Vec<Fault> = round.iter().map(|step| step.fault).collect();
            faults.sort_unstable();
            assert_eq!(faults, Fault::value_variants());
        }
        assert_eq!(Schedule::new(1, &[]).draw(), None);
    }
}
