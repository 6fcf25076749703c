//! What the page shows: a job that is slow and one that has failed, and their admin server.

use std::sync::Arc;
use std::time::Duration;

use kasper::admin::{Admin, AdminServer};
use kasper::testkit::{EmbeddedBroker, Feeder, TestMessage};
use kasper::{Batch, BoxError, Context, Handle, Processor, Report, TopicProcessor};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

pub(crate) const TOKEN: &str = "only-for-this-test";

/// What a name may be: it must be shown as it is, and not be understood.
pub(crate) const NAME: &str = "orders <img src=x onerror=\"document.title='broken'\">";

/// Two processors: one that is slow, with a partition that waits at a gate; and one that has failed.
pub(crate) struct Job {
    pub(crate) handle: Handle,
    failed: Handle,
    broker: EmbeddedBroker,
    gate: Arc<Semaphore>,
    pub(crate) server: Option<AdminServer>,
    running: JoinHandle<kasper::Result<Report>>,
}

struct Work {
    partition: i32,
    gate: Arc<Semaphore>,
}

impl Processor for Work {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        if self.partition == 1 {
            // Closed for good when the test is over with it.
            let _open = self.gate.acquire().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        match batch.iter().any(|message| message.value() == Some(b"bad")) {
            true => Err("<script>document.title = 'broken'</script> is no order".into()),
            false => Ok(()),
        }
    }
}

impl Job {
    pub(crate) async fn start() -> Self {
        let broker = EmbeddedBroker::start().unwrap();
        broker.create_topic("in", 4).unwrap();
        broker.create_topic("broken", 1).unwrap();
        let gate = Arc::new(Semaphore::new(0));
        let for_work = gate.clone();
        let processor = TopicProcessor::builder(NAME, ["in"])
            .brokers(broker.brokers())
            .partitions(0..4)
            .max_batch_messages(5)
            .commit_interval(Duration::from_millis(100))
            .stall_timeout(Duration::from_secs(1))
            .build(move |start| Work { partition: start.partition(), gate: for_work.clone() })
            .await
            .unwrap();
        let failed = Self::failed(&broker).await;
        let handle = processor.handle();
        let running = tokio::spawn(processor.run());
        let mut job = Self { handle, failed, broker, gate, server: None, running };
        job.server = Some(job.admin().serve("127.0.0.1:0").await.unwrap());
        job
    }

    async fn failed(broker: &EmbeddedBroker) -> Handle {
        let gate = Arc::new(Semaphore::new(0));
        let processor = TopicProcessor::builder("bills", ["broken"])
            .brokers(broker.brokers())
            .partitions([0])
            .build(move |start| Work { partition: start.partition(), gate: gate.clone() })
            .await
            .unwrap();
        let handle = processor.handle();
        let mut feeder = Feeder::new(&broker.brokers(), "broken", 1, handle.clone()).unwrap();
        feeder.send_message(TestMessage::new("broken").value("bad")).await.unwrap();
        processor.run().await.unwrap_err();
        handle
    }

    pub(crate) fn admin(&self) -> Admin {
        Admin::new().processor(self.handle.clone()).processor(self.failed.clone()).control(TOKEN)
    }

    pub(crate) fn feeder(&self) -> Feeder {
        Feeder::new(&self.broker.brokers(), "in", 4, self.handle.clone()).unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.as_ref().unwrap().local_addr())
    }

    pub(crate) async fn status(&self) -> Value {
        let answer = reqwest::get(self.url("/status")).await.unwrap().text().await.unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    pub(crate) fn open_gate(&self) {
        self.gate.close();
    }

    pub(crate) async fn end(self) {
        self.handle.close();
        self.running.await.unwrap().unwrap();
    }
}
