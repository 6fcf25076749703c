//! Large calls in parts: chunks of a size that a backend takes in one request, a few under way at a time.

use std::collections::HashSet;
use std::future::Future;

use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, StreamExt};

/// Runs the futures, so many at a time, and returns what they return, in order. The first error ends
/// it; futures under way are dropped then.
pub(crate) async fn in_order<T, E, F>(
    concurrency: usize,
    futures: impl IntoIterator<Item = F, IntoIter: Send> + Send,
) -> Result<Vec<T>, E>
where
    F: Future<Output = Result<T, E>> + Send,
    T: Send,
    E: Send,
{
    let mut waiting = futures.into_iter();
    let mut running: FuturesOrdered<F> = waiting.by_ref().take(concurrency.max(1)).collect();
    let mut results = Vec::new();
    while let Some(result) = running.next().await {
        results.push(result?);
        running.extend(waiting.next());
    }
    Ok(results)
}

/// The changes without those that a later change of the same key overtakes (rule 5 of
/// [`Store`](super::Store)), in the order of the last ones.
pub(crate) fn last_of_each_key<'a>(
    changes: &'a [(&'a str, Option<Bytes>)],
) -> Vec<(&'a str, Option<&'a Bytes>)> {
    // From the end, so that each key is looked up once.
    let mut seen = HashSet::with_capacity(changes.len());
    let last = changes.iter().rev().filter(|(key, _)| seen.insert(*key));
    let mut last: Vec<_> = last.map(|(key, value)| (*key, value.as_ref())).collect();
    last.reverse();
    last
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::{Error, ErrorKind};

    #[tokio::test]
    async fn results_come_in_order_and_no_more_run_at_a_time() {
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let one = async |number: usize| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..(7 * number) % 5 {
                tokio::task::yield_now().await;
            }
            running.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, Error>(number)
        };
        let mut futures = Vec::new();
        for number in 0..20 {
            futures.push(one(number));
        }
        assert_eq!(in_order(3, futures).await.unwrap(), (0..20).collect::<Vec<_>>());
        assert_eq!(most.into_inner(), 3);
    }

    #[tokio::test]
    async fn the_first_error_ends_it() {
        let begun = AtomicUsize::new(0);
        let futures = (0..10).map(|number| {
            let begun = &begun;
            async move {
                begun.fetch_add(1, Ordering::SeqCst);
                if number == 1 { Err(Error::new(ErrorKind::Backend, "x")) } else { Ok(number) }
            }
        });
        in_order(2, futures.collect::<Vec<_>>()).await.unwrap_err();
        assert!(begun.into_inner() < 5);
    }

    #[test]
    fn of_each_key_the_last_change_stays() {
        let some = |value: &'static str| Some(Bytes::from(value));
        let changes =
            [("a", some("1")), ("b", None), ("a", None), ("c", some("2")), ("b", some("3"))];
        let (two, three) = (Bytes::from("2"), Bytes::from("3"));
        assert_eq!(
            last_of_each_key(&changes),
            [("a", None), ("c", Some(&two)), ("b", Some(&three))]
        );
    }
}
