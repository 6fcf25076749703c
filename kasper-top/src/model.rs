//! What is known of the processes: their last answers, and what their processors did lately.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::fetch::{Address, Answer};
use crate::status::Status;

/// How many answers are shown as a line of bars.
pub(crate) const HISTORY: usize = 60;

/// All processes, in the order of the arguments.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) processes: Vec<Process>,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) address: String,
    /// The last status that it told; it stays while the process does not answer.
    pub(crate) status: Option<Status>,
    /// Why it does not answer, and since when.
    pub(crate) failed: Option<(String, Instant)>,
    /// By the processors' places.
    pub(crate) histories: BTreeMap<usize, History>,
}

/// The latest at the end.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) rates: VecDeque<f64>,
    pub(crate) lags: VecDeque<f64>,
}

impl Process {
    /// How long it has not answered, and why.
    pub(crate) fn silence(&self) -> Option<(&str, Duration)> {
        self.failed.as_ref().map(|(why, since)| (why.as_str(), since.elapsed()))
    }
}

impl Model {
    pub(crate) fn new(addresses: &[Address]) -> Self {
        let process = |address: &Address| Process {
            address: address.to_string(),
            status: None,
            failed: None,
            histories: BTreeMap::new(),
        };
        Self { processes: addresses.iter().map(process).collect() }
    }

    pub(crate) fn note(&mut self, Answer { process, result }: Answer) {
        let Some(process) = self.processes.get_mut(process) else { return };
        match result {
            Ok(status) => {
                process.failed = None;
                process.remember(&status);
                process.status = Some(status);
            }
            Err(why) => {
                let since = process.failed.as_ref().map_or_else(Instant::now, |(_, since)| *since);
                process.failed = Some((why, since));
            }
        }
    }

    /// Processes that don't answer.
    pub(crate) fn unreachable(&self) -> usize {
        self.processes.iter().filter(|process| process.failed.is_some()).count()
    }

    /// Lag and rate over all processors of the processes that answer.
    pub(crate) fn totals(&self) -> (u64, f64) {
        let there = self.processes.iter().filter(|process| process.failed.is_none());
        let processors = there.filter_map(|process| process.status.as_ref());
        let mut processors = processors.flat_map(|status| &status.processors);
        processors.by_ref().fold((0, 0.0), |(lag, rate), processor| {
            (lag + processor.lag, rate + processor.rate.unwrap_or(0.0))
        })
    }
}

impl Process {
    #[allow(clippy::cast_precision_loss, reason = "for bars of eight heights")]
    fn remember(&mut self, status: &Status) {
        self.histories.retain(|place, _| *place < status.processors.len());
        for (place, processor) in status.processors.iter().enumerate() {
            let history = self.histories.entry(place).or_default();
            push(&mut history.rates, processor.rate.unwrap_or(0.0));
            push(&mut history.lags, processor.lag as f64);
        }
    }
}

fn push(values: &mut VecDeque<f64>, value: f64) {
    if values.len() == HISTORY {
        values.pop_front();
    }
    values.push_back(value);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::status::{Partition, Processor};

    pub(crate) fn partition(number: i32, lag: u64) -> Partition {
        Partition {
            topic: "orders".into(),
            partition: number,
            state: "running".into(),
            next_offset: 1000,
            end_offset: 1000 + i64::try_from(lag).unwrap(),
            lag,
            rate: Some(12.5),
            in_flight: 1,
            last_progress_ms: 1500,
            stalled: false,
            last_error: None,
            quarantined_keys: 0,
            retrying: None,
        }
    }

    pub(crate) fn status(name: &str, partitions: Vec<Partition>) -> Status {
        let processor = Processor {
            name: name.into(),
            state: "running".into(),
            ready: true,
            paused: false,
            failure: None,
            lag: partitions.iter().map(|partition| partition.lag).sum(),
            rate: Some(50.0),
            messages: 123_456,
            partitions,
            topics: Vec::new(),
        };
        Status { processors: vec![processor] }
    }

    pub(crate) fn model(processes: usize) -> Model {
        let address = |index| format!("host-{index}:9400").parse().unwrap();
        Model::new(&(0..processes).map(address).collect::<Vec<_>>())
    }

    fn fail(model: &mut Model, process: usize, why: &str) {
        model.note(Answer { process, result: Err(why.into()) });
    }

    #[test]
    fn a_process_that_does_not_answer_counts_for_nothing_until_it_does() {
        let mut model = model(2);
        for process in 0..2 {
            let result = Ok(status("count", vec![partition(0, 7)]));
            model.note(Answer { process, result });
        }
        assert_eq!((model.unreachable(), model.totals()), (0, (14, 100.0)));
        fail(&mut model, 1, "refused");
        let since = model.processes[1].failed.as_ref().unwrap().1;
        fail(&mut model, 1, "no answer");
        let (why, still) = model.processes[1].failed.as_ref().unwrap();
        assert_eq!((why.as_str(), *still), ("no answer", since), "since the first time");
        assert_eq!((model.unreachable(), model.totals()), (1, (7, 50.0)));
        assert!(model.processes[1].status.is_some(), "what it said last stays to be seen");
        let result = Ok(status("count", vec![partition(0, 1)]));
        model.note(Answer { process: 1, result });
        assert_eq!((model.unreachable(), model.totals()), (0, (8, 100.0)));
    }

    #[test]
    fn histories_are_bounded_and_go_with_their_processors() {
        let mut model = model(1);
        for lag in 0..=HISTORY as u64 {
            let result = Ok(status("count", vec![partition(0, lag)]));
            model.note(Answer { process: 0, result });
        }
        let lags = &model.processes[0].histories[&0].lags;
        assert_eq!((lags.len(), lags[0], lags[HISTORY - 1]), (HISTORY, 1.0, HISTORY as f64));
        model.note(Answer { process: 0, result: Ok(Status { processors: Vec::new() }) });
        assert!(model.processes[0].histories.is_empty());
    }

    #[test]
    fn an_answer_of_nobody_is_passed_over() {
        let mut model = model(1);
        fail(&mut model, 3, "who?");
        assert_eq!(model.unreachable(), 0);
    }
}
