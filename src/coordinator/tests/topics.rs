//! Input topics that change: deleted, created again, with more partitions, or in part with other members.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::harness::{Member, MemberSetup, Sim, at};
use crate::broker::sim::{Mode, Spread};
use crate::{Error, ErrorKind, Offset, TopicChange};

const SECOND: Duration = Duration::from_secs(1);
const MODES: [Mode; 2] = [Mode::Eager, Mode::Incremental];

/// A member whose topics are joined.
fn joining(sim: &Sim, topics: &[&str]) -> MemberSetup {
    let topics = topics.iter().map(|topic| Arc::from(*topic)).collect();
    MemberSetup::new(&sim.cluster, topics).set(|settings| settings.needs_alignment = true)
}

/// What status says of the topics.
fn changes(member: &Member) -> Vec<(String, TopicChange)> {
    let topics = member.handle.status().topics;
    topics.iter().map(|warning| (warning.topic.to_string(), warning.change)).collect()
}

/// The error that the member ends with, and after how many seconds.
async fn ends(member: Member) -> (Error, u64) {
    let since = Instant::now();
    let error = member.error().await;
    (error, since.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_stops_the_processor() {
    for mode in MODES {
        let sim = Sim::new(mode, &["a", "b"], 2);
        let member = joining(&sim, &["a", "b"]).start();
        sim.settled().await;
        sleep(SECOND).await;
        assert!(changes(&member).is_empty());
        sim.world().delete_topic("b");
        sleep(10 * SECOND).await;
        assert_eq!(changes(&member), [("b".to_owned(), TopicChange::Deleted)]);
        sim.produce(&at("a", 0), 5);
        let (error, seconds) = ends(member).await;
        assert_eq!((error.kind(), error.get("topic")), (ErrorKind::UnknownTopic, Some("b")));
        assert!(error.to_string().contains("create it again"), "{error}");
        assert!((28..=31).contains(&seconds), "{seconds}");
        assert_eq!(sim.committed(&at("a", 0)), Some(5), "the other topic's are committed");
    }
}

/// Between `build`, which looks at the topics, and the first answer.
#[tokio::test(start_paused = true)]
async fn a_topic_that_is_deleted_at_once_stops_the_processor() {
    let sim = Sim::new(Mode::Eager, &["a", "b"], 1);
    let member = joining(&sim, &["a", "b"]).start();
    sim.world().delete_topic("b");
    let (error, seconds) = ends(member).await;
    assert_eq!((error.kind(), error.get("topic")), (ErrorKind::UnknownTopic, Some("b")));
    assert!((29..=31).contains(&seconds), "{seconds}");
}

/// A broker that has not heard of a topic yet says that there is none.
#[tokio::test(start_paused = true)]
async fn a_topic_that_is_missing_for_a_moment_stops_nothing() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    let member = joining(&sim, &["a"]).start();
    sim.settled().await;
    let id = sim.world().forget_topic("a");
    sleep(25 * SECOND).await;
    assert_eq!(changes(&member), [("a".to_owned(), TopicChange::Deleted)]);
    sim.world().remember_topic("a", id);
    sleep(60 * SECOND).await;
    assert!(changes(&member).is_empty());
    sim.produce(&at("a", 0), 5);
    sim.all_committed().await;
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_the_cluster_says_nothing_of_stops_nothing() {
    let sim = Sim::new(Mode::Eager, &["a", "b"], 1);
    let member = joining(&sim, &["a", "b"]).start();
    sim.settled().await;
    sim.world().delete_topic("b");
    sleep(15 * SECOND).await;
    sim.world().untold.insert("b".into());
    sleep(100 * SECOND).await;
    assert_eq!(changes(&member), [("b".to_owned(), TopicChange::Deleted)], "as last heard");
    sim.world().untold.clear();
    let (error, _) = ends(member).await;
    assert_eq!(error.kind(), ErrorKind::UnknownTopic);
}

/// The same topic with fewer partitions than before: the broker has not heard of those that were added.
#[tokio::test(start_paused = true)]
async fn a_broker_that_has_not_heard_of_added_partitions_makes_no_topic_another() {
    let sim = Sim::new(Mode::Eager, &["a"], 2);
    let member = joining(&sim, &["a"]).start();
    sim.settled().await;
    sim.produce(&at("a", 0), 5);
    sleep(15 * SECOND).await;
    sim.world().grow_topic("a", 4);
    sim.world().rebalance();
    sleep(15 * SECOND).await;
    sim.world().told_partitions.insert("a".into(), 2);
    sleep(60 * SECOND).await;
    assert!(changes(&member).is_empty());
    sim.produce(&at("a", 3), 5);
    sim.all_committed().await;
    member.close().await.unwrap();
    assert_eq!(sim.committed(&at("a", 0)), Some(5));
}

/// Its offsets begin anew: to go on at the old one skips messages, and to commit that has the next start skip them.
#[tokio::test(start_paused = true)]
async fn a_recreated_topic_stops_the_processor_and_the_next_one_has_all_of_it() {
    for mode in MODES {
        for is_static in [false, true] {
            let sim = Sim::new(mode, &["a"], 1);
            sim.world().monitor.offsets_jump = true;
            let setup = || match is_static {
                true => joining(&sim, &["a"]).statics(vec![at("a", 0)]),
                false => joining(&sim, &["a"]),
            };
            sim.produce(&at("a", 0), 50);
            let member = setup().start();
            sim.all_committed().await;
            sim.world().recreate_topic("a", 1);
            // More than the old one had: the old offset is one of the new log's.
            sim.produce(&at("a", 0), 100);
            sleep(5 * SECOND).await;
            assert_eq!(sim.committed(&at("a", 0)), Some(100), "nobody has noticed yet");
            sleep(6 * SECOND).await;
            assert_eq!(changes(&member), [("a".to_owned(), TopicChange::Recreated)]);
            sim.produce(&at("a", 0), 10);
            let (error, seconds) = ends(member).await;
            let context = (error.kind(), error.get("topic"));
            assert_eq!(context, (ErrorKind::OffsetOutOfRange, Some("a")));
            assert!(error.to_string().contains("created again"), "{error}");
            assert!(seconds <= 11, "{seconds}");
            assert_eq!(sim.committed(&at("a", 0)), Some(0));
            let before = sim.processed(&at("a", 0)).len();
            assert_eq!(before, 100, "once it was noticed, nothing");
            let next = setup().start();
            sim.all_committed().await;
            assert_eq!(sim.processed(&at("a", 0))[before..], (0..110).collect::<Vec<i64>>());
            next.close().await.unwrap();
        }
    }
}

/// Closed, or asked to give the partition back, when it is noticed and not yet certain.
#[tokio::test(start_paused = true)]
async fn offsets_of_a_recreated_topic_are_not_committed() {
    for is_closed in [false, true] {
        let sim = Sim::new(Mode::Incremental, &["a"], 1);
        sim.world().monitor.offsets_jump = true;
        sim.produce(&at("a", 0), 50);
        let member = joining(&sim, &["a"]).set(|s| s.commit_interval = 3600 * SECOND).start();
        sim.settled().await;
        sleep(SECOND).await;
        sim.world().recreate_topic("a", 1);
        sim.produce(&at("a", 0), 100);
        sleep(10 * SECOND).await;
        assert_eq!(changes(&member), [("a".to_owned(), TopicChange::Recreated)]);
        match is_closed {
            true => drop(member.close().await.unwrap()),
            false => {
                sim.give(&[]);
                sleep(SECOND).await;
                assert!(member.handle.status().partitions.is_empty());
                drop(member.close().await);
            }
        }
        assert_eq!(sim.committed(&at("a", 0)), None);
    }
}

/// One answer may be that of a broker that lags behind.
#[tokio::test(start_paused = true)]
async fn a_single_answer_with_another_id_stops_nothing() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    let member = joining(&sim, &["a"]).start();
    sim.settled().await;
    let id = sim.world().forget_topic("a");
    sim.world().remember_topic("a", id + 1000);
    sleep(11 * SECOND).await;
    assert_eq!(changes(&member), [("a".to_owned(), TopicChange::Recreated)]);
    sim.world().remember_topic("a", id);
    sleep(50 * SECOND).await;
    assert!(changes(&member).is_empty());
    sim.produce(&at("a", 0), 5);
    sim.all_committed().await;
    member.close().await.unwrap();
}

/// Shorter than the old one was: the client says so before the cluster is asked.
#[tokio::test(start_paused = true)]
async fn a_recreated_topic_that_ends_before_the_offset_is_out_of_range() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.world().monitor.offsets_jump = true;
    sim.produce(&at("a", 0), 50);
    let member = joining(&sim, &["a"]).start();
    sim.all_committed().await;
    sim.world().recreate_topic("a", 1);
    sim.produce(&at("a", 0), 10);
    let (error, seconds) = ends(member).await;
    assert_eq!((error.kind(), seconds), (ErrorKind::OffsetOutOfRange, 0));
    assert!(error.to_string().contains("the topic was recreated"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn partitions_that_are_added_to_one_of_several_topics_stop_the_processor() {
    for mode in MODES {
        let sim = Sim::new(mode, &["a", "b"], 2);
        let member = joining(&sim, &["a", "b"]).start();
        sim.settled().await;
        sim.world().grow_topic("b", 3);
        sleep(12 * SECOND).await;
        assert_eq!(changes(&member), [("a".to_owned(), TopicChange::Unaligned)]);
        // From now on nothing is processed.
        sim.produce(&at("a", 1), 5);
        let (error, seconds) = ends(member).await;
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("a: 2, b: 3"), "{error}");
        assert!(error.to_string().contains("allow_unaligned_topics"), "{error}");
        assert!((27..=31).contains(&seconds), "{seconds}");
        assert!(sim.processed(&at("a", 1)).is_empty());
    }
}

/// An operator adds them to one topic after the other.
#[tokio::test(start_paused = true)]
async fn partitions_that_are_added_to_all_topics_are_picked_up() {
    for mode in MODES {
        let sim = Sim::new(mode, &["a", "b"], 2);
        let members = [joining(&sim, &["a", "b"]).start(), joining(&sim, &["a", "b"]).start()];
        sim.settled().await;
        sim.world().grow_topic("a", 4);
        sleep(15 * SECOND).await;
        sim.world().grow_topic("b", 4);
        sim.world().rebalance();
        sleep(60 * SECOND).await;
        for topic in ["a", "b"] {
            (0..4).for_each(|partition| sim.produce(&at(topic, partition), 5));
        }
        sim.all_committed().await;
        for member in members {
            assert!(changes(&member).is_empty());
            member.close().await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn topics_that_need_no_alignment_may_grow() {
    let sim = Sim::new(Mode::Eager, &["a", "b"], 2);
    let member = sim.member().start();
    sim.settled().await;
    sim.world().grow_topic("b", 3);
    sim.world().rebalance();
    sim.produce(&at("b", 2), 5);
    sleep(100 * SECOND).await;
    sim.all_committed().await;
    assert!(changes(&member).is_empty());
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn partitions_that_are_added_to_static_ones_are_told_of() {
    let sim = Sim::new(Mode::Eager, &["a"], 2);
    let member = sim.member().statics(vec![at("a", 0), at("a", 1)]).start();
    sleep(SECOND).await;
    sim.world().grow_topic("a", 4);
    sleep(100 * SECOND).await;
    assert_eq!(changes(&member), [("a".to_owned(), TopicChange::PartitionsAdded)]);
    let message = member.handle.status().topics[0].message.clone();
    assert!(message.contains("had 2 partitions and has 4"), "{message}");
    sim.produce(&at("a", 0), 5);
    sim.until("it is processed", |world| world.committed(&at("a", 0)) == Some(Offset::new(5)))
        .await;
    member.close().await.unwrap();
}

/// A rolling deploy adds a topic: the member that has it gets all of its partitions, and only some of the other's.
#[tokio::test(start_paused = true)]
async fn a_member_with_more_topics_than_the_others_joins_nothing() {
    for mode in MODES {
        let sim = Sim::new(mode, &["a", "b"], 4);
        let old = joining(&sim, &["a"]).start();
        sim.settled().await;
        let new = joining(&sim, &["a", "b"]).start();
        sim.settled().await;
        sleep(SECOND).await;
        assert_eq!(changes(&new), [("a".to_owned(), TopicChange::Incomplete)]);
        // Which is no way round it.
        new.handle.resume();
        for partition in 0..4 {
            sim.produce(&at("b", partition), 5);
        }
        let (error, seconds) = ends(new).await;
        assert_eq!((error.kind(), error.get("topic")), (ErrorKind::Config, Some("a")));
        assert!(error.to_string().contains("different input topics"), "{error}");
        assert!((25..=41).contains(&seconds), "{seconds}");
        for partition in [0, 1] {
            assert!(sim.processed(&at("b", partition)).is_empty(), "its a is with the other");
        }
        for partition in [2, 3] {
            assert_eq!(sim.processed(&at("b", partition)).len(), 5, "both are its own");
        }
        assert!(changes(&old).is_empty());
        old.close().await.unwrap();
    }
}

/// The group gives nothing of one topic for a while, as where a broker had not heard of it: what is in it is not
/// consumed, and was not looked at.
#[tokio::test(start_paused = true)]
async fn nothing_is_caught_up_without_a_topic() {
    for mode in MODES {
        let sim = Sim::new(mode, &["a", "b"], 1);
        sim.produce(&at("b", 0), 5);
        let member = joining(&sim, &["a", "b"]).until_caught_up().start();
        sim.give(&[(at("a", 0), member.id)]);
        sim.settled().await;
        member.has_not_consumed_all_for(20_000).await;
        sim.world().group.spread = Spread::Range;
        sim.world().rebalance();
        assert_eq!(member.end().await.unwrap().messages, 5);
    }
}

/// Partitions of a number may come one after the other.
#[tokio::test(start_paused = true)]
async fn a_number_that_is_in_pieces_for_a_while_waits_for_the_rest() {
    let sim = Sim::new(Mode::Incremental, &["a", "b"], 1);
    sim.produce(&at("b", 0), 5);
    let first = joining(&sim, &["a", "b"]).start();
    let second = joining(&sim, &["a", "b"]).start();
    sim.give(&[(at("a", 0), first.id), (at("b", 0), second.id)]);
    sim.settled().await;
    sleep(15 * SECOND).await;
    assert_eq!(changes(&first), [("b".to_owned(), TopicChange::Incomplete)]);
    assert_eq!(changes(&second), [("a".to_owned(), TopicChange::Incomplete)]);
    let done = sim.processed(&at("b", 0)).len();
    sim.produce(&at("b", 0), 5);
    sleep(5 * SECOND).await;
    assert_eq!(sim.processed(&at("b", 0)).len(), done);
    sim.world().group.spread = Spread::Range;
    sim.world().rebalance();
    sim.all_committed().await;
    for member in [first, second] {
        assert!(changes(&member).is_empty());
        member.close().await.unwrap();
    }
}

/// The broker that is asked has not heard of the topic either.
#[tokio::test(start_paused = true)]
async fn nothing_is_caught_up_while_a_topic_is_missing() {
    let sim = Sim::new(Mode::Eager, &["a", "b"], 1);
    sim.produce(&at("b", 0), 5);
    let id = sim.world().forget_topic("b");
    let member = joining(&sim, &["a", "b"]).until_caught_up().start();
    sim.give(&[(at("a", 0), member.id)]);
    sim.settled().await;
    member.has_not_consumed_all_for(15_000).await;
    sim.world().remember_topic("b", id);
    sim.world().group.spread = Spread::Range;
    sim.world().rebalance();
    assert_eq!(member.end().await.unwrap().messages, 5);
}
