//! `get_many` and `write_many`, call by call: raw driver and store take turns within each round.

use std::time::{Duration, Instant};

use kasper::Bytes;
use kasper::store::{AnyStore, Store as _};

use crate::case::{Call, Case, Server, Who, Work};
use crate::common::BoxError;
use crate::common::counting::Driver as _;
use crate::common::measure::Sample;
use crate::common::runs::Size;
use crate::place::Place;
use crate::raw::Raw;

/// One run of one case.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    /// Keys or messages.
    pub(crate) count: usize,
    pub(crate) seconds: f64,
    /// Of a whole job.
    pub(crate) sample: Option<Sample>,
}

impl Run {
    pub(crate) fn add(&mut self, keys: usize, took: Duration) {
        self.count += keys;
        self.seconds += took.as_secs_f64();
    }
}

/// There are so many of each size; a call takes the next of them, in turn.
const KEYS: usize = 10_000;

/// Everything is written and read so often before it counts: servers on the JVM begin slowly.
const WARM_UPS: usize = 4;

/// A server with the raw driver and the store, each connected to a place of its own.
pub(crate) struct Calls {
    pub(crate) server: Server,
    raw: Raw,
    store: AnyStore,
    sizes: [Data; 2],
}

/// Keys and values of one size.
struct Data {
    keys: Vec<String>,
    full_keys: Vec<String>,
    values: Vec<Bytes>,
}

impl Calls {
    /// Connects, and writes all keys.
    pub(crate) async fn connect(raw: &Place, ours: &Place) -> Result<Self, BoxError> {
        let sizes = [Size::Small, Size::Large].map(|size| Data::new(size, raw));
        let server = raw.server;
        let calls =
            Self { server, raw: Raw::connect(raw).await?, store: ours.store().await?, sizes };
        for number in 0..WARM_UPS {
            for size in [Size::Small, Size::Large] {
                for who in [Who::Raw, Who::Ours] {
                    calls.call(who, Call::Write, size, KEYS, number).await?;
                    calls.call(who, Call::Get, size, KEYS, number).await?;
                }
            }
        }
        Ok(calls)
    }

    /// Every key of this benchmark.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.sizes.iter().flat_map(|data| &data.keys).map(String::as_str)
    }

    /// The cases by turns, call by call, until each has had so much time, or one call if that takes
    /// longer.
    pub(crate) async fn run(&self, cases: &[Case], time: Duration) -> Vec<Result<Run, BoxError>> {
        let mut runs: Vec<Result<Run, BoxError>> =
            cases.iter().map(|_| Ok(Run::default())).collect();
        for number in 0.. {
            let mut turns: Vec<usize> = (0..cases.len()).collect();
            turns.rotate_left(number % cases.len());
            for turn in turns {
                let Work::Calls { call, keys, size } = cases[turn].work else { continue };
                let Ok(run) = &mut runs[turn] else { continue };
                match self.call(cases[turn].who, call, size, keys, number).await {
                    Ok(took) => run.add(keys, took),
                    Err(error) => runs[turn] = Err(error),
                }
            }
            let is_done = |run: &Result<Run, BoxError>| {
                run.as_ref().map_or(true, |run| run.seconds >= time.as_secs_f64())
            };
            if runs.iter().all(is_done) {
                break;
            }
        }
        runs
    }

    async fn call(
        &self,
        who: Who,
        call: Call,
        size: Size,
        count: usize,
        number: usize,
    ) -> Result<Duration, BoxError> {
        let data = &self.sizes[usize::from(size == Size::Large)];
        let begin = number * count % KEYS;
        let all = if who == Who::Raw { &data.full_keys } else { &data.keys };
        let keys: Vec<&str> = all[begin..begin + count].iter().map(String::as_str).collect();
        // Other values than those that are there.
        let values = data.values.iter().cycle().skip((begin + number) % KEYS);
        match (who, call) {
            (Who::Raw, Call::Get) => {
                let start = Instant::now();
                let values = self.raw.get_many(&keys).await?;
                check(start.elapsed(), &values)
            }
            (Who::Ours, Call::Get) => {
                let start = Instant::now();
                let values = self.store.get_many(&keys).await?;
                check(start.elapsed(), &values)
            }
            (Who::Raw, Call::Write) => {
                let changes: Vec<_> = keys.into_iter().zip(values.cloned()).collect();
                let start = Instant::now();
                self.raw.write_many(&changes).await?;
                Ok(start.elapsed())
            }
            (Who::Ours, Call::Write) => {
                let changes: Vec<_> = keys.into_iter().zip(values.cloned().map(Some)).collect();
                let start = Instant::now();
                self.store.write_many(&changes).await?;
                Ok(start.elapsed())
            }
        }
    }
}

fn check(took: Duration, values: &[Option<Bytes>]) -> Result<Duration, BoxError> {
    match values.iter().all(Option::is_some) {
        true => Ok(took),
        false => Err("a value is missing".into()),
    }
}

impl Data {
    fn new(size: Size, raw: &Place) -> Self {
        let keys: Vec<String> =
            (0..KEYS).map(|number| format!("{}-{number:05}", size.label())).collect();
        let full_keys = keys.iter().map(|key| Raw::full_key(raw, key)).collect();
        Self { keys, full_keys, values: (0..KEYS).map(|seed| document(size, seed)).collect() }
    }
}

/// A JSON document of this size, which is what Elasticsearch takes; the others don't care.
fn document(size: Size, seed: usize) -> Bytes {
    let (before, after) = ("{\"value\":\"", "\"}");
    let length = size.bytes() - before.len() - after.len();
    let mut random = (seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let letters = std::iter::repeat_with(|| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        char::from(b'a' + u8::try_from(random % 26).unwrap_or_default())
    });
    let text: String = letters.take(length).collect();
    Bytes::from(format!("{before}{text}{after}"))
}
