//! Small doubles of the broker seam for the stages' own tests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::{Queue, QueueError, Taken};
use crate::error::{Error, ErrorKind};
use crate::message::{Keepalive, Offset, OwnedMessage, Payload, Record, TopicPartition};

/// A message of `size` bytes.
pub(crate) fn record(topic: u16, offset: i64, size: usize) -> Record {
    let message = OwnedMessage {
        topic: format!("topic-{topic}").into(),
        partition: 0,
        offset: Offset::new(offset),
        key: None,
        value: Some(vec![0; size]),
        headers: Vec::new(),
        timestamp: None,
    };
    Record { payload: Payload::Owned(Box::new(message)), topic }
}

/// A queue that a test fills.
#[derive(Clone, Default)]
pub(crate) struct ScriptedQueue {
    records: Arc<Mutex<VecDeque<Result<Record, Error>>>>,
    arrived: Arc<Notify>,
}

impl ScriptedQueue {
    pub(crate) fn push(&self, records: impl IntoIterator<Item = Record>) {
        self.records.lock().unwrap().extend(records.into_iter().map(Ok));
        self.arrived.notify_one();
    }

    pub(crate) fn fail(&self, message: &str) {
        let error = Error::new(ErrorKind::Backend, message);
        self.records.lock().unwrap().push_back(Err(error));
        self.arrived.notify_one();
    }
}

impl Queue for ScriptedQueue {
    fn take(&mut self, max: usize, into: &mut Vec<Record>) -> Taken {
        let mut records = self.records.lock().unwrap();
        let mut taken = Taken::default();
        while taken.messages < max && taken.error.is_none() {
            match records.pop_front() {
                Some(Ok(record)) => {
                    into.push(record);
                    taken.messages += 1;
                }
                Some(Err(error)) => {
                    let partition = TopicPartition::new("a", 0);
                    taken.error = Some(QueueError { partition, error });
                }
                None => break,
            }
        }
        taken
    }

    fn arrived(&self) -> Arc<Notify> {
        self.arrived.clone()
    }

    fn keepalive(&self) -> Keepalive {
        None
    }
}
