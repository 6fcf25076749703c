//! Letters of a quarantine by key, replayed to the processor that wrote them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use kasper::store::MapStore;
use kasper::testkit::TestMessage;
use kasper::{
    Batch, BoxError, Context, ErrorPolicy, OnError, Processor, Quarantine, TopicProcessor,
};

use crate::dlq::{Topics, brokers};

/// Remembers each key's numbers in the order in which they are processed; does not take 2 of every second key before it is
/// repaired.
#[derive(Clone, Default)]
struct Ledger {
    done: Arc<Mutex<BTreeMap<String, Vec<u32>>>>,
    is_repaired: Arc<AtomicBool>,
}

impl Processor for Ledger {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        let mut done = Vec::new();
        for message in batch.iter() {
            let (key, number) =
                (message.key_str()?, std::str::from_utf8(message.value().unwrap())?);
            let (of_key, number): (u32, u32) = (key.parse()?, number.parse()?);
            if number == 2 && of_key.is_multiple_of(2) && !self.is_repaired.load(Ordering::Relaxed)
            {
                return Err("not yet".into());
            }
            done.push((key.to_owned(), number));
        }
        let mut all = self.done.lock().unwrap();
        done.into_iter().for_each(|(key, number)| all.entry(key).or_default().push(number));
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn keys_that_are_held_are_replayed_in_order_and_released() {
    const KEYS: u32 = 100;
    let topics = Topics::create("quarantine").await;
    let (ledger, store) = (Ledger::default(), MapStore::new());
    let send = async |numbers: std::ops::Range<u32>| {
        let of_number =
            |number: u32| (0..KEYS).map(move |key| (key.to_string(), number.to_string()));
        let messages = numbers
            .flat_map(of_number)
            .map(|(key, number)| TestMessage::new(topics.source.as_str()).key(key).value(number));
        topics.client.send_all(messages.collect::<Vec<_>>()).await.unwrap();
    };
    let run = async || {
        let ledger = ledger.clone();
        let quarantine = Quarantine::new(store.clone());
        let policy = ErrorPolicy::new(OnError::dead_letter(&topics.letters));
        let processor = TopicProcessor::builder(&topics.source, [&topics.source])
            .brokers(brokers())
            .on_error(policy.quarantine_by_key(quarantine))
            .build(move |_| ledger.clone())
            .await
            .unwrap();
        processor.run_until_caught_up().await.unwrap()
    };
    send(0..5).await;
    assert_eq!(run().await.rejected, 150, "2, 3 and 4 of each second key");
    // Another process knows what is held.
    send(5..6).await;
    assert_eq!(run().await.rejected, 50);
    // Too early: all are letters again.
    assert_eq!(topics.replay(&[]).await.out, "replayed 200 messages\n");
    assert_eq!(run().await.rejected, 200);
    // A replay is cut, and new messages come between.
    ledger.is_repaired.store(true, Ordering::Relaxed);
    assert!(topics.replay(&["--limit", "70"]).await.out.starts_with("replayed 70 messages\n"));
    send(6..7).await;
    let mut rounds = 0;
    while run().await.rejected > 0 {
        topics.replay(&[]).await;
        rounds += 1;
        assert!(rounds < 5, "it does not end");
    }
    topics.replay(&[]).await;
    assert_eq!(run().await.rejected, 0);
    send(7..8).await;
    assert_eq!(run().await.rejected, 0, "no key is held");
    let done = ledger.done.lock().unwrap();
    assert_eq!(done.len(), KEYS as usize);
    for (key, numbers) in &*done {
        assert_eq!(*numbers, (0..8).collect::<Vec<u32>>(), "{key}");
    }
}
