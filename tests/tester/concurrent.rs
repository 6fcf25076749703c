//! Asynchronous calls for the messages of a batch, some at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kasper::testkit::{ProcessorTester, TestMessage};
use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor};

/// Asks a service about each message, three at a time. The service starts its work at once when it is called.
#[derive(Clone, Default)]
struct Ask {
    begun: Arc<AtomicUsize>,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Ask {
    fn service(&self, number: i64) -> impl Future<Output = Result<i64, BoxError>> + Send + use<> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let running = self.running.clone();
        let work = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(10 * (7 * number as u64 % 5))).await;
            running.fetch_sub(1, Ordering::SeqCst);
            number
        });
        async move {
            match work.await? {
                11 => Err("no answer for 11".into()),
                number => Ok(number),
            }
        }
    }
}

impl Processor for Ask {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        let answers =
            batch.map_concurrent(3, |message| self.service(message.offset().get())).await?;
        let borrowed = &*self;
        batch
            .for_each_concurrent(0, |message| async move {
                borrowed.begun.fetch_sub(1, Ordering::SeqCst);
                assert!(message.offset().get() >= 0);
                Ok::<_, BoxError>(())
            })
            .await?;
        for answer in answers {
            context.send(OutgoingMessage::new("answers").value(answer.to_string()));
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn calls_begin_when_their_turn_comes_and_none_after_an_error() {
    let ask = Ask::default();
    let processor = ask.clone();
    let mut tester = ProcessorTester::new(["orders"], move |_| processor.clone());
    for _ in 0..10 {
        tester.push(TestMessage::new("orders"));
    }
    tester.run_batch().await.unwrap();
    let sent = tester.take_outgoing().into_iter().map(|record| record.value.unwrap());
    assert_eq!(sent.collect::<Vec<_>>(), (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!((ask.most.load(Ordering::SeqCst), ask.begun.load(Ordering::SeqCst)), (3, 0));

    for _ in 10..100 {
        tester.push(TestMessage::new("orders"));
    }
    let error = tester.run_batch().await.unwrap_err();
    assert!(format!("{error:#}").contains("no answer for 11"), "{error:#}");
    let begun = ask.begun.load(Ordering::SeqCst);
    assert!(begun < 10, "{begun}");
}
