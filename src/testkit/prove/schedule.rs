//! [`Schedule`]: where batches are cut, and what goes wrong when; made from a seed before anything runs.

use std::collections::{BTreeMap, VecDeque};

use super::random::Random;
use crate::testkit::TestMessage;

/// What happens to a processor, from its first message to its last. When the steps are done, the messages that are left
/// are delivered without a fault, and the partition is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schedule {
    pub(super) steps: Vec<Step>,
    /// The size of the batches after the last step.
    pub(super) rest: usize,
    /// Decides which keys of a write are written if the write is cut in two.
    pub(super) salt: u64,
    /// Chooses how the messages of several topics are mixed. 0: as they are given.
    pub(super) order: u64,
}

/// One batch, and what happens in it or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// At most this many, fewer where fewer are left.
    pub(super) messages: usize,
    pub(super) fault: Fault,
    /// After a fault that stops the process: how many commits before the last one were not made either.
    pub(super) back: usize,
    /// Another process takes the partition over.
    pub(super) elsewhere: bool,
    /// The acks of what this batch sends do not come yet.
    pub(super) hold: bool,
    /// If the process stops while acks are missing, what they are missing for never reached the broker.
    pub(super) unsent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// The partition is revoked after the batch, in good order.
    Revoked,
    /// The process dies.
    Crash(Point),
    /// The next message to this output topic, by its number, can't be delivered.
    DeliveryFails(usize),
    /// The partition is lost: `process` is dropped at an `await`, and the process lives on.
    Lost(Point),
    /// A call to the store fails.
    StoreFails(usize),
    /// The processor ticks after the batch.
    Tick,
}

/// Where within a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    /// When all of it is done, but for the commit.
    End,
    /// The n-th point of the calls to the store, from 0: each call has one before and one after its effect, and a write of
    /// several keys has one in the middle.
    Store(usize),
    /// The n-th time, from 0, that the processor waits for something other than the store.
    Wait(usize),
}

/// What a processor is known to do, from runs without faults: faults are chosen to hit it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shape {
    pub(super) messages: usize,
    /// The most points of the store in a batch of one message, and in a batch of all.
    pub(super) points_of_one: usize,
    pub(super) points_of_all: usize,
    /// The most other waits in a batch.
    pub(super) waits: usize,
    pub(super) output_topics: usize,
    pub(super) ticks: bool,
    /// The messages of several topics come in any order.
    pub(super) any_order: bool,
}

/// A longer schedule finds little that a shorter one does not, and takes longer.
const MOST_STEPS: usize = 12;

impl Schedule {
    /// Batches of this size, without faults.
    pub(super) fn straight(batch: usize) -> Self {
        Self { steps: Vec::new(), rest: batch, salt: 0, order: 0 }
    }

    /// Each message in a batch of its own, and a revocation after each.
    pub(super) fn handed_over(messages: usize, elsewhere: bool) -> Self {
        let step = Step { messages: 1, fault: Fault::Revoked, elsewhere, ..Step::PLAIN };
        Self { steps: vec![step; messages], ..Self::straight(1) }
    }

    /// The schedule of a seed.
    pub(super) fn of_seed(seed: u64, shape: &Shape) -> Self {
        let mut random = Random::new(seed);
        let largest = match random.below(3) {
            0 => 2,
            1 => shape.messages / 3,
            _ => shape.messages,
        };
        let most_steps = 1 + random.below(MOST_STEPS);
        // Some come again.
        let mut left = shape.messages + shape.messages / 2;
        let mut steps = Vec::new();
        // Else small batches would seldom come to the last messages.
        if random.chance(40) {
            let messages = 1 + random.below(shape.messages);
            left = left.saturating_sub(messages);
            steps.push(Step { messages, ..Step::PLAIN });
        }
        while left > 0 && steps.len() < most_steps {
            let step = Step::choose(&mut random, largest.max(1), shape);
            left = left.saturating_sub(step.messages);
            steps.push(step);
        }
        Self {
            steps,
            rest: 1 + random.below(shape.messages),
            salt: random.next(),
            order: if shape.any_order { random.next() } else { 0 },
        }
    }

    /// The messages in the order in which they come: those of a topic always in the same.
    pub(super) fn ordered(&self, inputs: &[TestMessage]) -> Vec<TestMessage> {
        if self.order == 0 {
            return inputs.to_vec();
        }
        let mut random = Random::new(self.order);
        let mut topics: BTreeMap<&str, VecDeque<&TestMessage>> = BTreeMap::new();
        for input in inputs {
            topics.entry(&input.topic).or_default().push_back(input);
        }
        let mut ordered = Vec::new();
        while ordered.len() < inputs.len() {
            let chosen = random.below(topics.len());
            ordered.extend(topics.values_mut().nth(chosen).and_then(VecDeque::pop_front).cloned());
        }
        ordered
    }

    /// Whether it only cuts batches.
    pub(super) fn only_cuts(&self) -> bool {
        self.steps.iter().all(|step| step.fault == Fault::None && !step.hold)
    }

    /// Whether each message comes once: it only cuts batches and changes owners in good order.
    pub(super) fn is_orderly(&self) -> bool {
        let orderly = |fault| matches!(fault, Fault::None | Fault::Revoked);
        self.steps.iter().all(|step| orderly(step.fault) && !step.hold)
    }

    /// The same cuts in this order, with this in place of each fault.
    pub(super) fn with_faults(&self, order: u64, with: impl Fn(Fault) -> Fault) -> Self {
        let mut schedule = Self { order, ..self.clone() };
        for step in &mut schedule.steps {
            step.fault = with(step.fault);
            step.hold = false;
        }
        schedule
    }
}

impl Step {
    /// One message, and no fault.
    pub(super) const PLAIN: Self = Self {
        messages: 1,
        fault: Fault::None,
        back: 0,
        elsewhere: false,
        hold: false,
        unsent: false,
    };

    fn choose(random: &mut Random, largest: usize, shape: &Shape) -> Self {
        let messages = 1 + random.below(largest);
        let points = shape.points_of_one.saturating_mul(messages).min(shape.points_of_all);
        let fault = match random.below(100) {
            ..30 => Fault::None,
            30..55 => Fault::Crash(Point::choose(random, points, shape)),
            55..65 => Fault::Lost(Point::choose(random, points, shape)),
            65..83 if points > 0 => Fault::StoreFails(random.below(points)),
            83..90 if shape.output_topics > 0 => {
                Fault::DeliveryFails(random.below(shape.output_topics))
            }
            90..97 => Fault::Revoked,
            97.. if shape.ticks => Fault::Tick,
            _ => Fault::Crash(Point::End),
        };
        Self {
            messages,
            fault,
            back: if random.chance(60) { 0 } else { 1 + random.below(3) },
            elsewhere: random.chance(30),
            hold: shape.output_topics > 0 && random.chance(15),
            unsent: random.chance(50),
        }
    }
}

impl Fault {
    /// The same at an earlier point.
    pub(super) fn earlier(self) -> Vec<Self> {
        match self {
            Self::Crash(point) => point.earlier().map(Self::Crash).collect(),
            Self::Lost(point) => point.earlier().map(Self::Lost).collect(),
            Self::StoreFails(at) => earlier(at).map(Self::StoreFails).collect(),
            Self::None | Self::Revoked | Self::DeliveryFails(_) | Self::Tick => Vec::new(),
        }
    }
}

/// A few of the numbers below this one.
fn earlier(number: usize) -> impl Iterator<Item = usize> {
    let few = (0..number).take(6);
    few.chain([number / 2, number.saturating_sub(1)]).filter(move |few| *few < number)
}

impl Point {
    fn earlier(self) -> impl Iterator<Item = Self> {
        let (at, point): (usize, fn(usize) -> Self) = match self {
            Self::End => (0, Self::Store),
            Self::Store(at) => (at, Self::Store),
            Self::Wait(at) => (at, Self::Wait),
        };
        earlier(at).map(point)
    }

    fn choose(random: &mut Random, points: usize, shape: &Shape) -> Self {
        match random.below(100) {
            ..20 => Self::End,
            20..35 if shape.waits > 0 => Self::Wait(random.below(shape.waits)),
            _ if points > 0 => Self::Store(random.below(points)),
            _ => Self::End,
        }
    }
}
