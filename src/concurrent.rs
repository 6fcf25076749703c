//! Many futures, a few of them at a time.

use std::future::{Future, ready};
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::stream::{self, StreamExt};

/// Runs the futures, at most `concurrency` at a time, and returns their results in order. After an error no new one
/// begins. Those under way run to their end, and then the first error in order is returned: a write that was dropped
/// would still be under way, and a store may have to give up a connection for it.
pub(crate) async fn in_order<T, E, F>(
    concurrency: usize,
    futures: impl IntoIterator<Item = F, IntoIter: Send> + Send,
) -> Result<Vec<T>, E>
where
    F: Future<Output = Result<T, E>> + Send,
    T: Send,
    E: Send,
{
    let failed = &AtomicBool::new(false);
    let watched = |future: F| async move {
        let result = future.await;
        failed.fetch_or(result.is_err(), Ordering::Relaxed);
        result
    };
    let results = stream::iter(futures.into_iter().map(watched))
        .take_while(|_| ready(!failed.load(Ordering::Relaxed)))
        .buffered(concurrency.max(1))
        // Boxed: callers could not show that they are `Send` if the closures were a part of their type.
        .boxed();
    results.collect::<Vec<_>>().await.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

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
    async fn after_an_error_none_begins_and_those_under_way_end() {
        let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let one = async |number: usize| {
            begun.fetch_add(1, Ordering::SeqCst);
            if number == 1 {
                return Err(number);
            }
            // The first one ends after the error of the second.
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
            ended.fetch_add(1, Ordering::SeqCst);
            if number == 2 { Err(number) } else { Ok(()) }
        };
        let mut futures = Vec::new();
        for number in 0..10 {
            futures.push(one(number));
        }
        assert_eq!(in_order(3, futures).await, Err(1));
        assert_eq!((begun.into_inner(), ended.into_inner()), (3, 2));
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
}
