//! Where newly assigned partitions begin: asked for while the lanes that run are looked after.
//!
//! Place in the data path: before it, between an assignment and its answer. All partitions are asked
//! for at once. If one of them can't be, all are assigned without a start, and each is asked for by
//! itself: it begins when it has its answer, and waits for no other.

use std::sync::atomic::Ordering;

use tokio::task::{Id, JoinError};
use tracing::{Instrument as _, warn};

use crate::coordinator::Coordinator;
use crate::error::{Error, ErrorKind, Result};
use crate::message::TopicPartition;
use crate::pipeline::start::{Start, starting_offset, starting_offsets};
use crate::processor::BoxFuture;

/// An assignment and its starting offsets.
pub(super) type Found = (Vec<TopicPartition>, Result<Vec<Start>>);
pub(super) type Starting = BoxFuture<'static, Found>;

/// What is being looked up; never done while nothing is. Cancel-safe.
pub(super) async fn found<T>(lookup: &mut Option<BoxFuture<'static, T>>) -> T {
    match lookup {
        Some(lookup) => lookup.await,
        None => std::future::pending().await,
    }
}

impl Coordinator {
    /// Begins to look up where newly assigned partitions start. Brokers may take their time to answer:
    /// meanwhile the lanes that run are looked after, and only events wait.
    pub(super) fn find_starts(&mut self, partitions: Vec<TopicPartition>) {
        if !partitions.is_empty() {
            // Until they are with us: they are not consumed.
            self.board.settled.store(false, Ordering::SeqCst);
        }
        let (consumer, start_from) = (self.consumer.clone(), self.settings.start_from);
        self.starting = Some(Box::pin(async move {
            let starts = starting_offsets(&*consumer, &partitions, start_from).await;
            (partitions, starts)
        }));
    }

    pub(super) async fn starts_found(&mut self, (partitions, starts): Found) {
        self.starting = None;
        let assigned = match starts {
            Ok(starts) => self.assign(partitions, starts).await,
            Err(error) if error.is_retryable() => {
                warn!(%error, "the starting offsets are not known yet: each partition starts when its own is found");
                self.find_late_starts(&partitions);
                self.assign(partitions, Vec::new()).await
            }
            Err(error) => Err(error),
        };
        self.note(assigned);
    }

    fn find_late_starts(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            let (consumer, start_from) = (self.consumer.clone(), self.settings.start_from);
            let (key, partition) = (partition.clone(), partition.clone());
            let find = async move { starting_offset(&*consumer, &partition, start_from).await };
            self.late.insert(key, self.lookups.spawn(find.in_current_span()));
        }
    }

    pub(super) async fn late_start_found(&mut self, found: Result<(Id, Result<Start>), JoinError>) {
        let begun = match found {
            Ok((id, start)) => {
                let task = self.late.iter().find(|(_, task)| task.id() == id);
                // Revoked meanwhile.
                let Some(partition) = task.map(|(partition, _)| partition.clone()) else { return };
                self.late.remove(&partition);
                match start {
                    Ok(start) => self.begin_late(start).await,
                    Err(error) => Err(error),
                }
            }
            Err(error) if error.is_cancelled() => return,
            Err(error) => {
                let message = "the task that looks up a starting offset panicked";
                Err(Error::new(ErrorKind::Internal, message).with_source(error))
            }
        };
        self.note(begun);
    }
}
