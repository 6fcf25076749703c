//! A broker that keeps a group's offsets for a minute: those of partitions without messages stay while a processor
//! runs, and for a minute after it.
//!
//! The broker is run by `xtask/src/servers/kafka/forgetful.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

/// The name of this module keeps these tests apart from those with the ordinary broker.
mod cluster {
    use std::time::{Duration, Instant};

    use kasper::{Builder, StartFrom, TopicProcessor};
    use tokio::task::JoinSet;

    use super::common::{
        self, Collect, committed, eventually, group_of, send_numbers, topic, unique,
    };

    const LIMIT: Duration = Duration::from_secs(60);

    /// The broker's minute, and some of its looks for what is over.
    const RETENTION: Duration = Duration::from_secs(80);

    type How = fn(Builder) -> Builder;

    fn statics(builder: Builder) -> Builder {
        builder.partitions([0, 1]).start_from(StartFrom::Latest)
    }

    struct Job {
        name: String,
        topic: String,
        how: How,
    }

    impl Job {
        fn builder(&self) -> Builder {
            let builder = TopicProcessor::builder(&self.name, [&self.topic]);
            let builder = builder.brokers(common::brokers());
            (self.how)(builder)
        }

        /// Partition 0 gets a message a second, partition 1 none.
        async fn idles(&self) {
            let collect = Collect::default();
            let own = collect.clone();
            let processor = self.builder().build(move |_| own.clone()).await.unwrap();
            let handle = processor.handle();
            let running = tokio::spawn(processor.run());
            eventually(LIMIT, || handle.status().settled).await;
            for partition in 0..2 {
                send_numbers(&self.topic, partition, 10).await;
            }
            eventually(LIMIT, || collect.len() == 20).await;
            let since = Instant::now();
            while since.elapsed() < RETENTION {
                send_numbers(&self.topic, 0, 1).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            assert_eq!(committed(&group_of(&self.name), &self.topic, 1), Some(10));
            handle.close();
            running.await.unwrap().unwrap();
            // Some looks of the broker for what is over, now that nobody is there.
            tokio::time::sleep(Duration::from_secs(15)).await;
            assert_eq!(committed(&group_of(&self.name), &self.topic, 1), Some(10));
        }

        /// What came meanwhile is processed, and nothing else.
        async fn goes_on(&self) {
            send_numbers(&self.topic, 1, 7).await;
            let collect = Collect::default();
            let own = collect.clone();
            let processor = self.builder().build(move |_| own.clone()).await.unwrap();
            processor.run_until_caught_up().await.unwrap();
            assert_eq!(collect.len(), 7);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    #[ignore = "needs a Kafka with a short retention; run `cargo xtask test --only cluster`"]
    async fn offsets_of_idle_partitions_outlive_the_retention() {
        let hows: [(&str, How); 3] =
            [("static", statics), ("classic", |b| b), ("kip-848", Builder::consumer_protocol)];
        let mut jobs = JoinSet::new();
        for (name, how) in hows {
            jobs.spawn(async move {
                let job = Job { name: unique(name), topic: topic(name, 2).await, how };
                job.idles().await;
                job.goes_on().await;
            });
        }
        jobs.join_all().await;
    }
}
