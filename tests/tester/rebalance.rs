//! Crashes, replays, revocations, lost partitions, shutdowns.

use std::collections::BTreeMap;
use std::time::Duration;

use kasper::store::{MapStore, Store};
use kasper::testkit::ProcessorTester;
use kasper::{Batch, BoxError, Context, ErrorKind, Offset, Processor};
use tokio::time::{Instant, timeout};

use super::{Obedient, order, push_orders, text};

/// Counts messages per key, wrongly: a replay counts again.
struct NaiveCount(MapStore);

impl Processor for NaiveCount {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for message in batch.iter() {
            *counts.entry(text(message.key())).or_default() += 1;
        }
        let keys: Vec<&str> = counts.keys().copied().collect();
        let stored = self.0.get_many(&keys).await?;
        let mut changes = Vec::new();
        for ((key, count), stored) in counts.into_iter().zip(stored) {
            let before = stored.map_or(Ok(0), |stored| text(Some(&stored)).parse::<u64>())?;
            changes.push((key, Some((before + count).to_string().into())));
        }
        Ok(self.0.write_many(&changes).await?)
    }
}

/// Keeps the latest value of each key: a replay writes the same again.
struct Latest(MapStore);

impl Processor for Latest {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        let mut changes = Vec::new();
        for message in batch.iter() {
            changes.push((text(message.key()), message.value().map(|value| value.to_vec().into())));
            context.forward("latest", &message);
        }
        Ok(self.0.write_many(&changes).await?)
    }
}

fn push_keyed(tester: &mut ProcessorTester) {
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        tester.push(order(value).key(key));
    }
}

#[tokio::test]
async fn a_drain_may_take_for_ever() {
    let tester = ProcessorTester::new(["orders"], |_| Latest(MapStore::new()));
    let mut tester = tester.drain_deadline(Duration::MAX);
    push_keyed(&mut tester);
    tester.run_batch().await.unwrap();
    tester.revoke().await.unwrap();
    assert_eq!(tester.outgoing().len(), 3);
}

#[tokio::test]
async fn replay_catches_a_processor_that_is_not_idempotent() {
    let store = MapStore::new();
    let shared = store.clone();
    let mut tester = ProcessorTester::new(["orders"], move |_| NaiveCount(shared.clone()));
    push_keyed(&mut tester);
    tester.run_batch().await.unwrap();
    let before = store.snapshot();
    assert_eq!(before["a"], "2");
    assert_eq!(tester.replay().await.unwrap(), 3);
    assert_ne!(store.snapshot(), before);
    assert_eq!(store.snapshot()["a"], "4");
}

#[tokio::test]
async fn replay_changes_nothing_for_a_processor_that_is_idempotent() {
    let store = MapStore::new();
    let shared = store.clone();
    let mut tester = ProcessorTester::new(["orders"], move |_| Latest(shared.clone()));
    push_keyed(&mut tester);
    tester.run_batch().await.unwrap();
    let (before, sent) = (store.snapshot(), tester.take_outgoing());
    for cut in 1..=4 {
        assert_eq!(tester.replay_cut(cut).await.unwrap(), 3);
        assert_eq!(store.snapshot(), before);
        assert_eq!(tester.take_outgoing(), sent);
        assert_eq!(tester.committed("orders"), Some(Offset::new(3)));
    }
    assert_eq!(tester.batches(), 1 + 3 + 2 + 1 + 1);
}

#[tokio::test]
async fn a_replay_begins_where_the_last_run_began() {
    let obedient = Obedient::default();
    let mut tester = obedient.tester();
    push_orders(&mut tester, &["1", "2"]);
    tester.run_batch().await.unwrap();
    push_orders(&mut tester, &["3"]);
    tester.run_batch().await.unwrap();
    push_orders(&mut tester, &["4"]);
    obedient.seen();
    assert_eq!(tester.replay().await.unwrap(), 2, "and with what was pushed since");
    assert_eq!(obedient.seen(), [["3", "4"]]);
    assert_eq!(obedient.made_and_dropped(), (2, 1));
}

#[tokio::test]
async fn a_crash_takes_back_what_the_last_run_committed() {
    let mut tester = Obedient::default().tester();
    push_orders(&mut tester, &["1", "2"]);
    tester.run_batch().await.unwrap();
    push_orders(&mut tester, &["3"]);
    tester.run_batch().await.unwrap();
    tester.crash();
    assert_eq!((tester.committed("orders"), tester.pending()), (Some(Offset::new(2)), 1));
}

#[tokio::test]
async fn a_revocation_drops_the_processor_and_records_what_finished() {
    let obedient = Obedient::default();
    let mut tester = obedient.tester();
    push_orders(&mut tester, &["1"]);
    tester.run_batch().await.unwrap();
    push_orders(&mut tester, &["2"]);
    tester.revoke().await.unwrap();
    assert_eq!(obedient.made_and_dropped(), (1, 1));
    assert_eq!(tester.committed("orders"), Some(Offset::new(1)));
    assert_eq!(tester.run_batch().await.unwrap_err().kind(), ErrorKind::InvalidInput);
    tester.crash();
    assert_eq!(tester.committed("orders"), Some(Offset::new(1)), "a revocation's record stays");

    tester.assign();
    obedient.seen();
    assert_eq!(tester.run_all().await.unwrap(), 1);
    assert_eq!(obedient.seen(), [["2"]]);
    assert_eq!(obedient.made_and_dropped(), (2, 1));
}

#[tokio::test]
async fn a_revocation_records_the_prefix_that_is_acknowledged() {
    let obedient = Obedient::default();
    let mut tester = obedient.tester();
    push_orders(&mut tester, &["-"]);
    tester.run_batch().await.unwrap();
    tester.hold_acks();
    push_orders(&mut tester, &["1"]);
    tester.run_batch().await.unwrap();
    push_orders(&mut tester, &["-"]);
    tester.run_batch().await.unwrap();
    assert_eq!(tester.in_flight(), 2, "the third has nothing to wait for but the second");
    tester.revoke().await.unwrap();
    assert_eq!(tester.committed("orders"), Some(Offset::new(1)));

    tester.release_acks().await.unwrap();
    assert_eq!(tester.committed("orders"), Some(Offset::new(1)), "late acks finish nothing");
    tester.assign();
    obedient.seen();
    tester.run_all().await.unwrap();
    assert_eq!(obedient.seen(), [["1", "-"]]);
}

#[tokio::test]
async fn a_revocation_gives_up_a_flush_whose_acks_are_held() {
    let mut tester = Obedient::default().tester();
    tester.hold_acks();
    push_orders(&mut tester, &["1", "flush", "2"]);
    tester.run_batch().await.unwrap();
    tester.revoke().await.unwrap();
    assert_eq!((tester.committed("orders"), tester.pending()), (None, 3));
}

#[tokio::test(start_paused = true)]
async fn a_revocation_waits_for_a_running_batch_until_its_deadline() {
    for (deadline_s, finished) in [(120, true), (20, false)] {
        let obedient = Obedient::default();
        let mut tester = obedient.tester().drain_deadline(Duration::from_secs(deadline_s));
        push_orders(&mut tester, &["1", "sleep"]);
        let run = timeout(Duration::from_secs(10), tester.run_batch()).await;
        assert!(run.is_err());
        let revoked = Instant::now();
        tester.revoke().await.unwrap();
        assert_eq!(revoked.elapsed().as_secs(), if finished { 50 } else { 20 });
        assert_eq!(tester.committed("orders"), finished.then(|| Offset::new(2)));
        assert_eq!(tester.outgoing().len(), usize::from(finished));
        assert_eq!(obedient.made_and_dropped(), (1, 1));
    }
}

#[tokio::test]
async fn a_lost_partition_records_nothing() {
    let obedient = Obedient::default();
    let mut tester = obedient.tester();
    push_orders(&mut tester, &["1"]);
    tester.run_batch().await.unwrap();
    push_orders(&mut tester, &["2"]);
    tester.run_batch().await.unwrap();
    tester.lose().await;
    assert_eq!(tester.committed("orders"), Some(Offset::new(1)));
    assert_eq!(obedient.made_and_dropped(), (1, 1));
    tester.assign();
    obedient.seen();
    tester.run_all().await.unwrap();
    assert_eq!(obedient.seen(), [["2"]]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_partitions_batch_is_dropped_at_its_await() {
    let obedient = Obedient::default();
    let mut tester = obedient.tester();
    push_orders(&mut tester, &["1", "sleep"]);
    let run = timeout(Duration::from_secs(10), tester.run_batch()).await;
    assert!(run.is_err());
    let lost = Instant::now();
    tester.lose().await;
    assert_eq!(lost.elapsed(), Duration::ZERO);
    assert_eq!((tester.committed("orders"), tester.pending()), (None, 2));
    assert_eq!(obedient.made_and_dropped(), (1, 1));
}

#[tokio::test]
async fn close_ends_the_run_after_its_batch() {
    let obedient = Obedient::default();
    let mut tester = obedient.tester().max_batch_messages(2);
    push_orders(&mut tester, &["1", "close", "2", "3"]);
    assert_eq!(tester.run_all().await.unwrap(), 2);
    assert!(tester.has_asked_to_close());
    assert_eq!(tester.committed("orders"), Some(Offset::new(2)));
    assert_eq!(obedient.made_and_dropped(), (1, 1));
    tester.assign();
    assert!(!tester.has_asked_to_close());
    assert_eq!(tester.run_all().await.unwrap(), 2);
}
