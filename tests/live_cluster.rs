//! Three brokers, each of which is killed once while messages flow: nothing is lost, and it goes on. In the
//! second test members come and go meanwhile, so that assignments meet elections.
//!
//! The brokers are run by `xtask/src/servers/kafka/cluster.rs`, which starts again what was killed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests and what they print"
)]

mod common;

/// The name of this module lets `cargo xtask test` run these tests, and no others, with a cluster.
mod cluster {
    use std::collections::{BTreeSet, VecDeque};
    use std::process::Command;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use kasper::testkit::TestMessage;
    use kasper::{
        Backoff, Batch, BoxError, Circuit, Context, ErrorPolicy, Handle, OnError, Processor,
        Report, TopicProcessor,
    };
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use tokio::sync::{Mutex, MutexGuard};
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::common::{
        self, Collect, Each, Sender, brokers, committed, eventually, group_of, read_all,
        send_numbers, topic, unique,
    };

    const PARTITIONS: i32 = 6;
    const BROKERS: usize = 3;

    /// How long brokers may take to start again and to catch up, on a machine that is busy with other things.
    const RECOVERY: Duration = Duration::from_mins(3);

    /// The cluster for one test alone, with all its brokers: each test kills some.
    async fn cluster() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::const_new(());
        let alone = ALONE.lock().await;
        let consumer: BaseConsumer = common::config_of(&[]).create().unwrap();
        eventually(RECOVERY, || {
            let metadata = consumer.fetch_metadata(None, Duration::from_secs(2));
            metadata.is_ok_and(|metadata| metadata.brokers().len() == BROKERS)
        })
        .await;
        alone
    }

    fn kill(broker: usize) {
        let script = std::env::var("KASPER_TEST_KAFKA_CLUSTER_KILL").expect(
            "this test needs a cluster of Kafka: run it with `cargo xtask test --only cluster`",
        );
        assert!(
            Command::new("sh").args([&script, &broker.to_string()]).status().unwrap().success()
        );
    }

    /// Every replica of the topic is in sync: the next broker may go.
    fn is_whole(consumer: &BaseConsumer, topic: &str) -> bool {
        let Ok(metadata) = consumer.fetch_metadata(Some(topic), Duration::from_secs(2)) else {
            return false;
        };
        let partitions = metadata.topics()[0].partitions();
        metadata.brokers().len() == BROKERS && partitions.iter().all(|p| p.isr().len() == BROKERS)
    }

    /// A message for each partition every few milliseconds.
    struct Feeder {
        stop: Arc<AtomicBool>,
        sent: Arc<AtomicU32>,
        thread: thread::JoinHandle<()>,
    }

    impl Feeder {
        fn start(input: &str) -> Self {
            let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
            let (input, over, count) = (input.to_owned(), stop.clone(), sent.clone());
            let thread = thread::spawn(move || {
                let sender = Sender::new();
                while !over.load(Ordering::Relaxed) {
                    let number = count.load(Ordering::Relaxed);
                    for partition in 0..PARTITIONS {
                        let value = format!("{partition}/{number}");
                        sender.send(&input, partition, &value);
                    }
                    count.store(number + 1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(5));
                }
                sender.flush();
            });
            Self { stop, sent, thread }
        }

        /// How many messages each partition has got.
        fn stop(self) -> u32 {
            self.stop.store(true, Ordering::Relaxed);
            self.thread.join().unwrap();
            self.sent.load(Ordering::Relaxed)
        }
    }

    /// The members of a group, which send everything on, and where each partition is.
    struct Job {
        name: String,
        input: String,
        output: String,
        consumer_protocol: bool,
        members: VecDeque<Member>,
        positions: Arc<Vec<AtomicU32>>,
    }

    struct Member {
        handle: Handle,
        running: JoinHandle<kasper::Result<Report>>,
    }

    impl Job {
        async fn start(name: &str, input: &str, consumer_protocol: bool) -> Self {
            let mut job = Self {
                name: unique(name),
                input: input.to_owned(),
                output: topic("out", PARTITIONS).await,
                consumer_protocol,
                members: VecDeque::new(),
                positions: Arc::new((0..PARTITIONS).map(|_| AtomicU32::new(0)).collect()),
            };
            job.join().await;
            job
        }

        /// One more member. To build it takes a broker that answers.
        async fn join(&mut self) {
            let (target, notes) = (self.output.clone(), self.positions.clone());
            let forward = move |batch: &Batch, context: &mut Context| {
                for message in batch.iter() {
                    context.forward(&target, &message);
                    let next = u32::try_from(message.offset().get() + 1).unwrap();
                    let index = usize::try_from(message.partition()).unwrap();
                    notes[index].fetch_max(next, Ordering::Relaxed);
                }
                Ok(())
            };
            let builder = TopicProcessor::builder(&self.name, [&self.input]).brokers(brokers());
            let builder =
                if self.consumer_protocol { builder.consumer_protocol() } else { builder };
            let builder = builder.connect_timeout(Duration::from_secs(30));
            let processor = builder.build(move |_| Each(forward.clone())).await.unwrap();
            let handle = processor.handle();
            self.members.push_back(Member { handle, running: tokio::spawn(processor.run()) });
        }

        /// The oldest member goes.
        async fn leave(&mut self) {
            let member = self.members.pop_front().unwrap();
            member.handle.close();
            member.running.await.unwrap().unwrap();
        }

        /// All partitions are past this message.
        fn is_past(&self, number: u32) -> bool {
            for member in &self.members {
                assert!(
                    !member.running.is_finished(),
                    "{}: {:?}",
                    self.name,
                    member.handle.status()
                );
            }
            self.positions.iter().all(|position| position.load(Ordering::Relaxed) > number)
        }

        /// `open`: the most messages of a partition that could be without a committed offset when
        /// partitions changed hands or brokers were killed, all such times together.
        async fn finish(mut self, sent: u32, open: u32, consumer: &BaseConsumer) {
            eventually(RECOVERY, || self.is_past(sent - 1)).await;
            while !self.members.is_empty() {
                self.leave().await;
            }
            // What asks from here on is a plain client, to which a broker that is away is an error.
            eventually(RECOVERY, || is_whole(consumer, &self.output)).await;
            let group = group_of(&self.name);
            for partition in 0..PARTITIONS {
                assert_eq!(committed(&group, &self.input, partition), Some(i64::from(sent)));
            }
            let output = read_all(&self.output).await;
            let total = output.len();
            let seen: BTreeSet<_> = output.into_iter().map(|m| m.value.unwrap()).collect();
            let twice = total - seen.len();
            println!("{}: {} sent, {twice} twice, {open} open", self.name, seen.len());
            let all = (0..PARTITIONS).flat_map(|p| (0..sent).map(move |n| format!("{p}/{n}")));
            let lost: Vec<_> = all.filter(|value| !seen.contains(value.as_bytes())).collect();
            assert!(lost.is_empty(), "{} lost, such as {:?}", lost.len(), lost.first());
            let most = usize::try_from(open).unwrap() * usize::try_from(PARTITIONS).unwrap();
            assert!(twice <= most, "{twice} came twice, and at most {most} were open");
        }
    }

    /// Counts what is sent from a commit interval before a broker is killed until all is well again.
    struct Open<'f> {
        feeder: &'f Feeder,
        total: u32,
    }

    impl Open<'_> {
        async fn during(&mut self, act: impl Future<Output = ()>) {
            let before = self.feeder.sent.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
            act.await;
            self.total += self.feeder.sent.load(Ordering::Relaxed) - before;
        }
    }

    async fn all_whole(jobs: &[Job], consumer: &BaseConsumer) {
        for topic in jobs.iter().flat_map(|job| [&job.output, &job.input]) {
            eventually(RECOVERY, || is_whole(consumer, topic)).await;
        }
    }

    async fn all_go_on(jobs: &[Job], number: u32) {
        let on = || jobs.iter().all(|job| job.is_past(number));
        if timeout(RECOVERY, eventually(2 * RECOVERY, on)).await.is_err() {
            let members = jobs.iter().flat_map(|job| &job.members);
            let status: Vec<_> = members.map(|member| member.handle.status()).collect();
            let positions: Vec<_> = jobs.iter().map(|job| &job.positions).collect();
            panic!("not all past {number} in {RECOVERY:?}: {positions:?}\n{status:#?}");
        }
    }

    async fn finish(jobs: [Job; 2], feeder: Feeder, open: u32, consumer: &BaseConsumer) {
        let sent = feeder.stop();
        for job in jobs {
            job.finish(sent, open, consumer).await;
        }
    }

    async fn jobs(input: &str) -> [Job; 2] {
        [Job::start("classic", input, false).await, Job::start("kip-848", input, true).await]
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs a cluster of Kafka; run `cargo xtask test --only cluster`"]
    async fn each_broker_is_killed_once_and_nothing_is_lost() {
        common::log();
        let _alone = cluster().await;
        let input = topic("in", PARTITIONS).await;
        let jobs = jobs(&input).await;
        let feeder = Feeder::start(&input);
        let consumer: BaseConsumer = common::config_of(&[]).create().unwrap();
        all_go_on(&jobs, 100).await;
        let mut open = Open { feeder: &feeder, total: 0 };
        for broker in 1..=BROKERS {
            all_whole(&jobs, &consumer).await;
            open.during(async {
                let (killed, number) = (Instant::now(), feeder.sent.load(Ordering::Relaxed));
                kill(broker);
                // Sent after the kill: of the partitions that it led too.
                all_go_on(&jobs, number + 50).await;
                let after = killed.elapsed();
                println!("broker {broker} was killed; all partitions go on after {after:?}");
            })
            .await;
        }
        let open = open.total;
        finish(jobs, feeder, open, &consumer).await;
    }

    /// Partition 0 is on the broker alone that is killed. The processors that start then, before and after
    /// the others have noticed, process the other partitions, and partition 0 when its broker is back.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs a cluster of Kafka; run `cargo xtask test --only cluster`"]
    async fn processors_start_while_a_broker_is_away() {
        common::log();
        let _alone = cluster().await;
        let leaders: Vec<i32> =
            (0..PARTITIONS).map(|p| if p == 0 { 3 } else { 1 + p % 2 }).collect();
        let input = topic_on("alone", &leaders).await;
        for partition in 0..PARTITIONS {
            send_numbers(&input, partition, 100).await;
        }
        kill(3);
        let mut running = Vec::new();
        for pause in [0, 300, 1000, 3000] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            for consumer_protocol in [false, true] {
                let collect = Collect::default();
                let builder = TopicProcessor::builder(unique("away"), [&input]).brokers(brokers());
                let builder = builder.connect_timeout(Duration::from_secs(30));
                let builder = if consumer_protocol { builder.consumer_protocol() } else { builder };
                let processor = builder.build(move |_| collect.clone()).await.unwrap();
                running.push(tokio::spawn(processor.run_until_caught_up()));
            }
        }
        for running in running {
            let report = timeout(Duration::from_secs(120), running).await.unwrap();
            assert_eq!(report.unwrap().unwrap().messages, 100 * leaders.len() as u64);
        }
    }

    /// A topic whose partitions are led by these brokers alone.
    async fn topic_on(name: &str, leaders: &[i32]) -> String {
        let name = unique(name);
        let replicas: Vec<[i32; 1]> = leaders.iter().map(|leader| [*leader]).collect();
        let replicas: Vec<&[i32]> = replicas.iter().map(<[i32; 1]>::as_slice).collect();
        let partitions = i32::try_from(leaders.len()).unwrap();
        let new = NewTopic::new(&name, partitions, TopicReplication::Variable(&replicas));
        let admin: AdminClient<_> = common::config_of(&[]).create().unwrap();
        let new = new.set("min.insync.replicas", "1");
        let created = admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
        created.into_iter().for_each(|result| assert!(result.is_ok(), "{result:?}"));
        let consumer: BaseConsumer = common::config_of(&[]).create().unwrap();
        eventually(RECOVERY, || {
            let metadata = consumer.fetch_metadata(Some(&name), Duration::from_secs(2));
            metadata.is_ok_and(|metadata| {
                let partitions = metadata.topics()[0].partitions();
                let led = partitions.iter().filter(|partition| partition.leader() > 0).count();
                metadata.brokers().len() == BROKERS && led == leaders.len()
            })
        })
        .await;
        name
    }

    /// Takes numbers, but for those that are divisible by ten.
    struct Picky;

    impl Processor for Picky {
        async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
            match batch.iter().find(|message| message.key().is_some_and(|key| key.ends_with(b"0")))
            {
                Some(_) => Err("divisible by ten".into()),
                None => Ok(()),
            }
        }
    }

    /// The only broker that has the dead letter topic goes away while letters are written: they are sent again until it is
    /// back.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs a cluster of Kafka; run `cargo xtask test --only cluster`"]
    async fn letters_wait_for_the_broker_that_is_away() {
        const COUNT: u32 = 2000;
        common::log();
        let _alone = cluster().await;
        let (input, letters) = (topic_on("in", &[1, 2]).await, topic_on("dead", &[3]).await);
        let name = unique("letters");
        let forever = Backoff::new().longest(Duration::from_secs(1)).forever();
        let policy = ErrorPolicy::new(OnError::dead_letter(&letters)).retryable(forever);
        let processor = TopicProcessor::builder(&name, [&input])
            .brokers(brokers())
            .partitions([0, 1])
            // Before librdkafka's own patience ends.
            .delivery_timeout(Duration::from_secs(2))
            .on_error(policy.circuit(Circuit::new().never()))
            .build(|_| Picky)
            .await
            .unwrap();
        let handle = processor.handle();
        let running = tokio::spawn(processor.run());
        kill(3);
        for partition in 0..2 {
            send_numbers(&input, partition, COUNT).await;
        }
        eventually(RECOVERY, || handle.has_consumed_all() && handle.lag() == 0).await;
        handle.close();
        let report = running.await.unwrap().unwrap();
        let bad = u64::from(2 * COUNT / 10);
        assert_eq!((report.messages, report.rejected), (u64::from(2 * COUNT), bad));
        let found = read_all(&letters).await;
        let place = |letter: &TestMessage| {
            ["partition", "offset"]
                .map(|what| letter.header_text(&format!("__dlq.errors.{what}")).unwrap().to_owned())
        };
        let places: BTreeSet<_> = found.iter().map(place).collect();
        assert_eq!(places.len() as u64, bad, "each has a letter");
        for partition in 0..2 {
            let committed = committed(&group_of(&name), &input, partition);
            assert_eq!(committed, Some(i64::from(COUNT)));
        }
    }

    /// A member joins right after a broker was killed, another one a little later, when partitions are
    /// being given new leaders, and then the oldest one leaves. No member fails.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs a cluster of Kafka; run `cargo xtask test --only cluster`"]
    async fn members_join_while_brokers_are_killed_and_nothing_is_lost() {
        common::log();
        let _alone = cluster().await;
        let input = topic("in", PARTITIONS).await;
        let mut jobs = jobs(&input).await;
        let feeder = Feeder::start(&input);
        let consumer: BaseConsumer = common::config_of(&[]).create().unwrap();
        all_go_on(&jobs, 100).await;
        let mut open = Open { feeder: &feeder, total: 0 };
        for broker in 1..=BROKERS {
            all_whole(&jobs, &consumer).await;
            open.during(async {
                let number = feeder.sent.load(Ordering::Relaxed);
                kill(broker);
                for pause in [50, 500, 2000] {
                    for job in &mut jobs {
                        job.join().await;
                    }
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                all_go_on(&jobs, number + 50).await;
                for job in &mut jobs {
                    while job.members.len() > 2 {
                        job.leave().await;
                    }
                }
                all_go_on(&jobs, feeder.sent.load(Ordering::Relaxed)).await;
                println!("broker {broker} was killed, and members have come and gone");
            })
            .await;
        }
        let open = open.total;
        finish(jobs, feeder, open, &consumer).await;
    }
}
