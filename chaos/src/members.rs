//! The worker processes: started, killed, ended, frozen, and looked after.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::args::{Protocol, Worker, name_of};
use crate::oracle::{Broken, Promise};
use crate::signal;
use crate::worker::ASSIGNED;

/// All workers of a run, those that are gone too.
pub(crate) struct Members {
    worker: Worker,
    /// How many there are with static partitions.
    places: usize,
    partitions: i32,
    directory: PathBuf,
    end_within: Duration,
    running: Vec<Member>,
    logs: Vec<PathBuf>,
    pub(crate) broken: Vec<Broken>,
    /// In KiB.
    pub(crate) peak_memory: u64,
    /// From SIGTERM to the end, the longest.
    pub(crate) slowest_end: Duration,
}

struct Member {
    /// With static partitions, which share of them is its own.
    place: usize,
    process: Child,
    log: PathBuf,
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Members {
    /// Logs go to the directory.
    pub(crate) fn new(
        worker: Worker,
        places: usize,
        partitions: i32,
        directory: PathBuf,
        end_within: Duration,
    ) -> Self {
        Self {
            worker,
            places,
            partitions,
            directory,
            end_within,
            running: Vec::new(),
            logs: Vec::new(),
            broken: Vec::new(),
            peak_memory: 0,
            slowest_end: Duration::ZERO,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.running.len()
    }

    /// How many were started.
    pub(crate) fn started(&self) -> usize {
        self.logs.len()
    }

    /// One more.
    pub(crate) fn start(&mut self) -> Result<()> {
        let taken = |place: &usize| self.running.iter().any(|member| member.place == *place);
        let place = (0..).find(|place| !taken(place)).unwrap_or(0);
        let log = self.directory.join(format!("worker-{}.log", self.logs.len()));
        let output = File::create(&log).with_context(|| log.display().to_string())?;
        let mut command = Command::new(own_program()?);
        command.arg("worker").args(self.arguments(place));
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "warn");
        }
        let process = command
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output)
            .spawn()
            .context("a worker cannot be started")?;
        self.logs.push(log.clone());
        self.running.push(Member { place, process, log });
        Ok(())
    }

    fn arguments(&self, place: usize) -> Vec<String> {
        let worker = &self.worker;
        let pairs = [
            ("--brokers", &worker.brokers),
            ("--name", &worker.name),
            ("--input", &worker.input),
            ("--output", &worker.output),
            ("--letters", &worker.letters),
            ("--redis", &worker.redis),
        ];
        let mut arguments: Vec<String> =
            pairs.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).clone()]).collect();
        arguments.extend(["--protocol".to_owned(), name_of(&worker.protocol)]);
        if worker.protocol == Protocol::Static {
            let own = (0..self.partitions)
                .filter(|p| usize::try_from(*p).is_ok_and(|p| p % self.places == place));
            let own: Vec<String> = own.map(|partition| partition.to_string()).collect();
            arguments.extend(["--partitions".to_owned(), own.join(",")]);
        }
        if let Some(defect) = worker.defect {
            arguments.extend(["--break".to_owned(), name_of(&defect)]);
        }
        arguments
    }

    /// One of those that run, chosen by this number.
    fn index(&self, choice: u64) -> Result<usize> {
        let count = u64::try_from(self.running.len())?;
        if count == 0 {
            bail!("no worker is running");
        }
        Ok(usize::try_from(choice % count)?)
    }

    /// SIGKILL. Returns the worker's log's name.
    pub(crate) fn kill(&mut self, choice: u64) -> Result<String> {
        let index = self.index(choice)?;
        let member = self.running.remove(index);
        Ok(member.name())
    }

    /// SIGTERM, and waits until it has ended. Returns the worker's log's name.
    pub(crate) fn end(&mut self, choice: u64) -> Result<String> {
        let index = self.index(choice)?;
        let mut member = self.running.remove(index);
        let name = member.name();
        let began = Instant::now();
        signal::send(&member.process, Signal::TERM)?;
        let status = loop {
            self.peak_memory = self.peak_memory.max(member.peak_memory());
            if let Some(status) = member.process.try_wait()? {
                break Some(status);
            }
            if began.elapsed() > self.end_within {
                break None;
            }
            sleep(Duration::from_millis(20));
        };
        self.slowest_end = self.slowest_end.max(began.elapsed());
        let example = match status {
            Some(status) if status.success() => return Ok(name),
            Some(status) => format!("{name} ended with {status}: {}", member.last_words()),
            None => format!("{name} had not ended after {:?}", self.end_within),
        };
        self.note(Promise::EndsInTime, example);
        Ok(name)
    }

    /// SIGSTOP or SIGCONT. Returns the worker's log's name.
    pub(crate) fn signal(&self, choice: u64, what: Signal) -> Result<String> {
        let index = self.index(choice)?;
        let member = self.running.get(index).context("no worker is running")?;
        signal::send(&member.process, what)?;
        Ok(member.name())
    }

    /// Notes what they take and who has ended by itself; starts another one then.
    pub(crate) fn look_after(&mut self) -> Result<()> {
        let mut ended = Vec::new();
        let mut index = 0;
        while let Some(member) = self.running.get_mut(index) {
            self.peak_memory = self.peak_memory.max(member.peak_memory());
            match member.process.try_wait()? {
                Some(status) => ended.push((self.running.remove(index), status)),
                None => index += 1,
            }
        }
        for (member, status) in ended {
            let (name, last) = (member.name(), member.last_words());
            self.note(Promise::StaysUp, format!("{name} ended with {status}: {last}"));
            self.start()?;
        }
        Ok(())
    }

    fn note(&mut self, promise: Promise, example: String) {
        match self.broken.iter_mut().find(|broken| broken.promise == promise) {
            Some(broken) => broken.count += 1,
            None => self.broken.push(Broken { promise, count: 1, example }),
        }
    }

    /// Reads all logs: notes panics, and counts assignments.
    pub(crate) fn read_logs(&mut self) -> Result<usize> {
        let mut assignments = 0;
        for log in self.logs.clone() {
            let bytes = fs::read(&log).with_context(|| log.display().to_string())?;
            let text = String::from_utf8_lossy(&bytes);
            assignments += text.lines().filter(|line| line.starts_with(ASSIGNED)).count();
            if let Some(line) = text.lines().find(|line| line.contains("panicked at")) {
                self.note(Promise::NoPanic, format!("{}: {line}", file_name(&log)));
            }
        }
        Ok(assignments)
    }
}

impl Member {
    fn name(&self) -> String {
        file_name(&self.log)
    }

    /// The last line of its log.
    fn last_words(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).lines().last().unwrap_or_default().to_owned()
    }

    /// In KiB; 0 where the system does not tell.
    fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// This program, also when it was built anew meanwhile.
fn own_program() -> Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { Ok(running) } else { Ok(std::env::current_exe()?) }
}
