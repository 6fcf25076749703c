//! The counting job, into each of the stores.

use crate::case::{Case, SEVERAL, Who, Work};
use crate::common::BoxError;
use crate::common::counting::{self, Input};
use crate::common::measure::Sample;
use crate::place::Place;
use crate::raw::Raw;

/// What the parent says to do.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) case: Case,
    pub(crate) brokers: String,
    pub(crate) input: String,
    pub(crate) place: Place,
    pub(crate) messages: u64,
}

/// Every key that there may be.
pub(crate) fn keys() -> Vec<String> {
    // With one partition, all keys are of that one.
    let others = counting::keys(SEVERAL).filter(|key| !key.starts_with("count-0-"));
    counting::keys(1).chain(others).collect()
}

/// Counts, and checks that all was counted.
pub(crate) async fn run(task: Task) -> Result<Sample, BoxError> {
    let Work::Count { partitions } = task.case.work else {
        return Err("not a job".into());
    };
    let Task { place, messages, .. } = &task;
    let (topic, messages) = (&task.input, *messages);
    let input = Input { brokers: &task.brokers, topic, partitions, messages };
    let keys = keys();
    let store = place.store().await?;
    let before = counting::total(&store, &keys).await?;
    let (sample, after) = match task.case.who {
        Who::Ours => {
            let sample = counting::ours(input, store.clone(), false).await?;
            (sample, counting::total(&store, &keys).await?)
        }
        // The database in a directory is opened once: the store must be closed for the raw loop.
        Who::Raw => {
            drop(store);
            let raw = Raw::connect(place).await?;
            let sample = counting::raw(input, &raw, |key| Raw::full_key(place, key)).await?;
            drop(raw);
            (sample, counting::total(&place.store().await?, &keys).await?)
        }
    };
    counting::check(after - before, messages)?;
    Ok(sample)
}
