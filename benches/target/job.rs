//! The job: counts messages by key, and calls a store once a batch. It runs in a process of its own, and notes when
//! offsets are committed, batches processed, and CPU time used.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kasper::{Batch, BoxError, Context, Handle, Processor, TopicProcessor};
use serde_json::{Value, json};
use tokio::time::{interval, sleep};

use crate::case::{Case, PARTITIONS};
use crate::common::measure::Mark;

/// How often it looks at what is committed.
const LOOK: Duration = Duration::from_millis(2);

/// What a store takes for each key.
const KEY: Duration = Duration::from_micros(2);

/// Since 1970: both processes have the same clock.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What happened, with times.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Record {
    /// The committed next offset of a partition.
    pub(crate) commits: Vec<(u64, usize, u64)>,
    /// Messages of a batch; the store is called once for each.
    pub(crate) batches: Vec<(u64, u64)>,
    /// Seconds of CPU used until then.
    pub(crate) cpu: Vec<(u64, f64)>,
}

impl Record {
    pub(crate) fn to_json(&self) -> Value {
        json!(self)
    }

    pub(crate) fn from_json(text: &str) -> Result<Self, BoxError> {
        Ok(serde_json::from_str(text)?)
    }
}

type Batches = Arc<std::sync::Mutex<Vec<(u64, u64)>>>;

struct Count {
    call: Duration,
    counts: HashMap<u64, u64>,
    batches: Batches,
}

impl Processor for Count {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        for message in batch {
            let key = message.key().and_then(|key| key.first_chunk()).ok_or("no key")?;
            *self.counts.entry(u64::from_le_bytes(*key)).or_default() += 1;
        }
        let keys = u32::try_from(self.counts.len())?;
        self.counts.clear();
        sleep(self.call + KEY * keys).await;
        let mut batches = self.batches.lock().map_err(|_| "another partition panicked")?;
        batches.push((now(), batch.len() as u64));
        Ok(())
    }
}

/// Runs until the end of standard input; says when it has begun.
pub(crate) async fn run(case: Case, brokers: &str, input: &str) -> Result<Record, BoxError> {
    let batches = Batches::default();
    let noted = batches.clone();
    let builder = TopicProcessor::builder(format!("{input}-job"), [input]).brokers(brokers);
    let builder = builder.partitions(0..i32::try_from(PARTITIONS)?);
    let make =
        move |_: &_| Count { call: case.call, counts: HashMap::new(), batches: noted.clone() };
    let processor = case.limits.set(builder).build(make).await?;
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    while !handle.status().settled && !running.is_finished() {
        sleep(LOOK).await;
    }
    println!("running");
    let closing = handle.clone();
    std::thread::spawn(move || {
        // An error is an end, too.
        let _read = std::io::stdin().read_to_end(&mut Vec::new());
        closing.close();
    });
    let mut record = Record::default();
    let mut looks = interval(LOOK);
    while !running.is_finished() {
        looks.tick().await;
        look(&handle, &mut record);
    }
    running.await??;
    record.batches = batches.lock().map_err(|_| "a partition panicked")?.clone();
    Ok(record)
}

fn look(handle: &Handle, record: &mut Record) {
    let now = now();
    for partition in handle.status().partitions {
        let number = usize::try_from(partition.partition.number).unwrap_or_default();
        let next = partition.committed_offset.and_then(|next| u64::try_from(next.get()).ok());
        let Some(next) = next else { continue };
        let mut before = record.commits.iter().rev().filter(|(_, other, _)| *other == number);
        if before.next().is_none_or(|(_, _, before)| *before < next) {
            record.commits.push((now, number, next));
        }
    }
    if record.cpu.last().is_none_or(|(at, _)| now - at >= 50_000_000) {
        record.cpu.push((now, Mark::now().cpu().as_secs_f64()));
    }
}
