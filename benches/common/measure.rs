//! What a run costs: time, CPU, memory of this process. And the statistics over several runs.
#![allow(unsafe_code, reason = "getrusage is a C function")]

use std::fs;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A moment, and the CPU time that the process had used then: all its threads, user and system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    at: Instant,
    cpu: Duration,
}

impl Mark {
    pub(crate) fn now() -> Self {
        Self { at: Instant::now(), cpu: cpu_time() }
    }

    pub(crate) fn cpu(self) -> Duration {
        self.cpu
    }

    pub(crate) fn elapsed(self) -> f64 {
        self.at.elapsed().as_secs_f64()
    }
}

fn cpu_time() -> Duration {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the call fills in the whole structure when it returns 0.
    let usage = unsafe {
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()), 0, "getrusage failed");
        usage.assume_init()
    };
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec.unsigned_abs())
        + Duration::from_micros(time.tv_usec.unsigned_abs())
}

/// The most memory that the process has had resident, in MB.
fn peak_rss_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) * 1024.0 / 1e6
}

/// One run of one case.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) messages: u64,
    /// From the first message received to the last one finished.
    pub(crate) seconds: f64,
    /// The same from where the partitions were assigned, or `run` was called.
    pub(crate) seconds_from_start: f64,
    /// From there to the return of `run`; 0 for the raw loops.
    pub(crate) seconds_to_return: f64,
    /// User and system time in `seconds`.
    pub(crate) cpu_seconds: f64,
    pub(crate) rss_mb: f64,
}

impl Sample {
    pub(crate) fn until_now(messages: u64, start: Mark, first: Option<Mark>) -> Self {
        Self::until(messages, start, first, Mark::now())
    }

    pub(crate) fn until(messages: u64, start: Mark, first: Option<Mark>, end: Mark) -> Self {
        let first = first.unwrap_or(end);
        Self {
            messages,
            seconds: (end.at - first.at).as_secs_f64(),
            seconds_from_start: (end.at - start.at).as_secs_f64(),
            seconds_to_return: 0.0,
            cpu_seconds: end.cpu.saturating_sub(first.cpu).as_secs_f64(),
            rss_mb: peak_rss_mb(),
        }
    }

    /// Messages a second.
    #[allow(clippy::cast_precision_loss, reason = "millions")]
    pub(crate) fn rate(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    /// Microseconds a message.
    #[allow(clippy::cast_precision_loss, reason = "millions")]
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.messages as f64
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "messages": self.messages,
            "seconds": self.seconds,
            "seconds_from_start": self.seconds_from_start,
            "seconds_to_return": self.seconds_to_return,
            "cpu_seconds": self.cpu_seconds,
            "rss_mb": self.rss_mb,
        })
    }

    pub(crate) fn from_json(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let number = |name: &str| value.get(name).and_then(Value::as_f64);
        Some(Self {
            messages: value.get("messages")?.as_u64()?,
            seconds: number("seconds")?,
            seconds_from_start: number("seconds_from_start")?,
            seconds_to_return: number("seconds_to_return")?,
            cpu_seconds: number("cpu_seconds")?,
            rss_mb: number("rss_mb")?,
        })
    }
}

/// Median, least and most of the runs of one case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, min, max })
    }
}
