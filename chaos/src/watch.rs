//! The watcher: polls the group's committed offsets, and checks at once that the ledger has what is committed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde::Serialize;

use crate::cluster::Cluster;
use crate::id::Id;
use crate::log::Log;
use crate::oracle::Commit;
use crate::redis_server::StoreReader;

const INTERVAL: Duration = Duration::from_millis(200);

/// A point of the picture.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    /// Milliseconds since the start.
    pub(crate) at: u64,
    /// Messages that are acknowledged and not committed.
    pub(crate) behind: i64,
}

/// The longest time in which a partition had something to commit, and did not.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Stall {
    pub(crate) partition: usize,
    pub(crate) milliseconds: u64,
    /// When it ended, in milliseconds since the start.
    pub(crate) until: u64,
}

/// What was seen so far.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) committed: Vec<i64>,
    pub(crate) commits: Vec<Commit>,
    pub(crate) ahead: Vec<Id>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) longest: Stall,
    /// Until where each partition was compared with the ledger.
    checked: Vec<i64>,
}

/// A thread that looks.
pub(crate) struct Watcher {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

struct Watch {
    cluster: Cluster,
    store: StoreReader,
    topic: String,
    log: Arc<Log>,
    began: Instant,
    seen: Arc<Mutex<Seen>>,
    /// Since when each partition has had something to commit, and has not.
    since: Vec<Instant>,
}

impl Watcher {
    pub(crate) fn start(
        cluster: Cluster,
        store: StoreReader,
        topic: &str,
        log: &Arc<Log>,
        began: Instant,
    ) -> Result<Self> {
        let partitions = log.ends().len();
        let start = Seen {
            committed: vec![0; partitions],
            checked: vec![0; partitions],
            ..Seen::default()
        };
        let seen = Arc::new(Mutex::new(start));
        let mut watch = Watch {
            cluster,
            store,
            topic: topic.to_owned(),
            log: Arc::clone(log),
            began,
            seen: Arc::clone(&seen),
            since: vec![Instant::now(); partitions],
        };
        let stop = Arc::<AtomicBool>::default();
        let over = Arc::clone(&stop);
        let thread = thread::Builder::new().name("watch".to_owned()).spawn(move || {
            while !over.load(Ordering::Relaxed) {
                watch.look();
                sleep(INTERVAL);
            }
        })?;
        Ok(Self { seen, stop, thread })
    }

    pub(crate) fn committed(&self) -> Vec<i64> {
        lock(&self.seen).committed.clone()
    }

    /// All partitions have committed up to these offsets.
    pub(crate) fn is_past(&self, ends: &[i64]) -> bool {
        self.committed().iter().zip(ends).all(|(committed, end)| committed >= end)
    }

    pub(crate) fn stop(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the watcher's thread has panicked"))?;
        Ok(lock(&self.seen).clone())
    }
}

impl Watch {
    fn look(&mut self) {
        // What cannot be asked now is asked in the next round: a broker is away, or Redis.
        let partitions = i32::try_from(self.since.len()).unwrap_or(i32::MAX);
        let committed = self.cluster.committed(&self.topic, partitions).ok();
        let ends = self.log.ends();
        self.note(committed, &ends);
        self.compare();
    }

    fn note(&mut self, committed: Option<Vec<i64>>, ends: &[i64]) {
        let at = millis(self.began.elapsed());
        let mut seen = lock(&self.seen);
        let committed = committed.unwrap_or_else(|| seen.committed.clone());
        let mut behind = 0;
        for (partition, ((offset, end), since)) in
            committed.iter().zip(ends).zip(&mut self.since).enumerate()
        {
            // -1: nothing is committed yet.
            let offset = (*offset).max(0);
            let before = seen.committed.get(partition).copied().unwrap_or(0);
            if offset != before {
                seen.commits.push(Commit { at, partition, offset });
            }
            let stalled = millis(since.elapsed());
            if stalled > seen.longest.milliseconds {
                seen.longest = Stall { partition, milliseconds: stalled, until: at };
            }
            if offset > before || offset >= *end {
                *since = Instant::now();
            }
            behind += (end - offset).max(0);
        }
        seen.committed = committed.into_iter().map(|offset| offset.max(0)).collect();
        if seen.samples.last().is_none_or(|last| at >= last.at + 500) {
            seen.samples.push(Sample { at, behind });
        }
    }

    /// What is committed and was not compared yet.
    fn compare(&mut self) {
        let (committed, checked) = {
            let seen = lock(&self.seen);
            (seen.committed.clone(), seen.checked.clone())
        };
        for (partition, (from, to)) in checked.into_iter().zip(committed).enumerate() {
            let range = self.log.range(partition, from, to);
            let Some((last, _)) = range.last().copied() else { continue };
            let ids: Vec<Id> =
                range.into_iter().map(|(_, id)| id).filter(|id| !id.is_poison()).collect();
            let Ok(has) = self.store.has(&ids) else { return };
            let missing = ids.into_iter().zip(has).filter(|(_, has)| !has).map(|(id, _)| id);
            let mut seen = lock(&self.seen);
            seen.ahead.extend(missing);
            if let Some(checked) = seen.checked.get_mut(partition) {
                *checked = last + 1;
            }
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
