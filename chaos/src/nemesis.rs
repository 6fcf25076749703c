//! Does the faults, one at a time, and waits after each until every partition goes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::Signal;
use serde::Serialize;

use crate::args::{Fault, name_of};
use crate::cluster::{self, Cluster};
use crate::log::Log;
use crate::members::Members;
use crate::oracle::{Broken, Promise};
use crate::progress::Progress;
use crate::redis_server::RedisServer;
use crate::schedule::Step;
use crate::watch::{Watcher, millis};

/// A fault that was done. Times are milliseconds since the start.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Mark {
    pub(crate) fault: Fault,
    pub(crate) victim: String,
    pub(crate) at: u64,
    pub(crate) until: u64,
    /// When all partitions had committed what was sent before the end of the fault.
    pub(crate) recovered: Option<u64>,
}

/// Everything that faults are done to, and that is watched meanwhile.
pub(crate) struct Nemesis {
    pub(crate) cluster: Cluster,
    pub(crate) brokers: usize,
    /// Whose replicas must be in sync before a broker is killed.
    pub(crate) topics: Vec<String>,
    pub(crate) kill_script: Option<PathBuf>,
    pub(crate) redis: RedisServer,
    pub(crate) members: Members,
    pub(crate) workers: usize,
    pub(crate) watcher: Watcher,
    pub(crate) log: Arc<Log>,
    pub(crate) began: Instant,
    pub(crate) progress_within: Duration,
    pub(crate) progress: Progress,
    pub(crate) marks: Vec<Mark>,
    pub(crate) broken: Vec<Broken>,
}

impl Nemesis {
    /// One fault, from the quiet time before it until all goes on.
    pub(crate) fn strike(&mut self, step: &Step) -> Result<()> {
        self.wait(step.quiet)?;
        if step.fault == Fault::KillBroker {
            self.wait_for_brokers()?;
        }
        let at = millis(self.began.elapsed());
        self.progress.tell(&format!("{} at {:.1} s", name_of(&step.fault), at as f64 / 1000.0));
        let (fault, victim) = self.act(step)?;
        let until = millis(self.began.elapsed());
        let recovered = self.wait_for_progress()?;
        if recovered.is_none() {
            let (limit, name) = (self.progress_within, name_of(&fault));
            let open = format!("{:?} committed", self.watcher.committed());
            let example = format!("not within {limit:?} after {name} at {at} ms: {open}");
            self.broken.push(Broken { promise: Promise::Progress, count: 1, example });
        }
        self.marks.push(Mark { fault, victim, at, until, recovered });
        Ok(())
    }

    /// Returns what was really done, and to whom.
    fn act(&mut self, step: &Step) -> Result<(Fault, String)> {
        let victim = match step.fault {
            Fault::KillWorker => {
                let name = self.members.kill(step.choice)?;
                self.wait(step.lasts)?;
                self.members.start()?;
                name
            }
            Fault::EndWorker => {
                let name = self.members.end(step.choice)?;
                self.members.start()?;
                name
            }
            Fault::FreezeWorker => {
                self.members.signal(step.choice, Signal::STOP)?;
                sleep(step.lasts);
                self.members.signal(step.choice, Signal::CONT)?
            }
            Fault::KillBroker => self.kill_broker(step.choice)?,
            Fault::KillRedis => {
                self.redis.kill()?;
                self.wait(step.lasts)?;
                self.redis.start_again()?;
                "redis".to_owned()
            }
            Fault::FreezeRedis => {
                self.redis.signal(Signal::STOP)?;
                let waited = self.wait(step.lasts);
                self.redis.signal(Signal::CONT)?;
                waited?;
                "redis".to_owned()
            }
            Fault::Join if self.members.count() <= self.workers => {
                self.members.start()?;
                "a new worker".to_owned()
            }
            Fault::Leave if self.members.count() < self.workers => {
                self.members.start()?;
                return Ok((Fault::Join, "a new worker".to_owned()));
            }
            Fault::Join | Fault::Leave => {
                return Ok((Fault::Leave, self.members.end(step.choice)?));
            }
        };
        Ok((step.fault, victim))
    }

    fn kill_broker(&mut self, choice: u64) -> Result<String> {
        let broker = 1 + usize::try_from(choice % self.brokers as u64)?;
        if let Some(script) = &self.kill_script {
            cluster::kill_broker(script, broker)?;
        }
        Ok(format!("broker {broker}"))
    }

    /// Two brokers must not be away at the same time: then writing stops, as it should.
    pub(crate) fn wait_for_brokers(&self) -> Result<()> {
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        self.cluster.wait_until_whole(self.brokers, &topics)
    }

    /// Returns when all partitions had committed what is acknowledged now, or nothing if that takes too long.
    pub(crate) fn wait_for_progress(&mut self) -> Result<Option<u64>> {
        let ends = self.log.ends();
        let began = Instant::now();
        while !self.watcher.is_past(&ends) {
            if began.elapsed() > self.progress_within {
                return Ok(None);
            }
            self.wait(Duration::from_millis(100))?;
        }
        Ok(Some(millis(self.began.elapsed())))
    }

    /// Looks after the workers meanwhile.
    pub(crate) fn wait(&mut self, time: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            self.members.look_after()?;
            let ends = self.log.ends();
            let committed = self.watcher.committed();
            let behind = ends.iter().zip(committed).map(|(end, offset)| end - offset).sum();
            self.progress.show(ends.iter().sum(), behind, self.members.count());
            let left = time.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(Duration::from_millis(200)));
        }
    }
}
