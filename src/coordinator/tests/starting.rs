//! Finding where partitions begin: some of them late, or never.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::harness::{MemberSetup, Sim, at, millis};
use crate::broker::Event;
use crate::broker::sim::Mode;
use crate::error::Error;
use crate::{ErrorKind, StartFrom};

/// Ten of a thousand partitions have no leader for three seconds. The others start at once, and the ten
/// with one seek: in a group of the classic protocol each seek has all partitions fetched anew.
#[tokio::test(start_paused = true)]
async fn a_thousand_partitions_of_which_ten_have_no_leader() {
    let sim = Sim::new(Mode::Eager, &["a"], 1000);
    (0..1000).for_each(|number| sim.produce(&at("a", number), 1));
    let late: Vec<_> = (0..10).map(|n| at("a", n * 100)).collect();
    sim.world().leaderless.extend(late.iter().cloned());
    let begun = Instant::now();
    let member = sim.member().start();
    sim.until("all others are committed", |world| world.uncommitted().len() == 10).await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    sleep(Duration::from_secs(3) - begun.elapsed()).await;
    assert_eq!(sim.world().counts.get("seeks"), None);
    sim.world().leaderless.clear();
    sim.all_committed().await;
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert_eq!(sim.world().counts["seeks"], 1);
    let asked = sim.world().counts["offsets are listed"];
    assert!(asked <= 12, "{asked} questions");
    assert_eq!(sim.world().monitor.incarnations(), 1000, "no lane began twice");
    member.close().await.unwrap();
}

/// Leaders come back one after the other: each brings what it leads.
#[tokio::test(start_paused = true)]
async fn partitions_that_get_their_leaders_one_by_one() {
    for mode in [Mode::Eager, Mode::Incremental] {
        let sim = Sim::new(mode, &["a", "b"], 4);
        for number in 0..4 {
            sim.produce(&at("a", number), 3);
            sim.produce(&at("b", number), 3);
            sim.world().leaderless.insert(at("b", number));
        }
        let member = sim.member().start();
        for number in 0..4 {
            sleep(Duration::from_secs(2)).await;
            assert!(!member.handle.has_consumed_all());
            assert_eq!(sim.committed(&at("b", number)), None);
            sim.world().leaderless.remove(&at("b", number));
            sim.until("it is committed", |world| {
                world.committed(&at("b", number)).is_some_and(|next| next.get() == 3)
            })
            .await;
        }
        sim.all_committed().await;
        assert_eq!(sim.processed(&at("a", 0)), [0, 1, 2]);
        member.close().await.unwrap();
    }
}

/// A broker that has just become the leader does not know the topic yet, and then it does.
#[tokio::test(start_paused = true)]
async fn a_topic_that_is_not_known_yet() {
    let sim = Sim::new(Mode::Eager, &["a"], 2);
    (0..2).for_each(|number| sim.produce(&at("a", number), 5));
    sim.world().refused.insert(at("a", 1), ErrorKind::UnknownTopic);
    let member = sim.member().start();
    sleep(Duration::from_secs(20)).await;
    assert_eq!(sim.committed(&at("a", 0)), Some(5), "the other one goes on");
    sim.world().refused.clear();
    sim.all_committed().await;
    member.close().await.unwrap();
}

/// What brokers say for too long ends the processor, with words that tell what is wrong.
#[tokio::test(start_paused = true)]
async fn what_brokers_insist_on_is_believed() {
    for (kind, after) in [
        (ErrorKind::UnknownTopic, 30),
        (ErrorKind::UnknownPartition, 30),
        (ErrorKind::Unauthorized, 10),
        (ErrorKind::Backend, 0),
    ] {
        let sim = Sim::new(Mode::Eager, &["a"], 2);
        sim.world().refused.insert(at("a", 1), kind);
        let member = sim.member().start();
        let begun = Instant::now();
        let error = member.error().await;
        assert_eq!(error.kind(), kind);
        assert_eq!((error.get("topic"), error.get("partition")), (Some("a"), Some("1")));
        let waited = begun.elapsed();
        let expected = Duration::from_secs(after)..Duration::from_secs(after + 2);
        assert!(expected.contains(&waited), "{kind}: after {waited:?}");
        if after == 30 {
            assert!(error.to_string().contains("does not exist any more"), "{error}");
        }
    }
}

/// While the brokers do not say where a new partition begins, the lag of the others is up to date, and
/// an error of the client that is fatal ends the processor.
#[tokio::test(start_paused = true)]
async fn events_are_handled_while_starts_are_looked_up() {
    let sim = Sim::new(Mode::Incremental, &["a"], 2);
    let member = sim.member().start();
    sim.give(&[(at("a", 0), member.id)]);
    sim.settled().await;
    sim.world().weather.faults.lookup_failed = 100;
    sim.give(&[(at("a", 0), member.id), (at("a", 1), member.id)]);
    sleep(millis(1000)).await;
    assert!(sim.world().assigned(member.id) == [at("a", 0)], "the new one has no start");
    sim.produce(&at("a", 0), 5);
    sleep(millis(1500)).await;
    assert_eq!(member.handle.status().partitions[0].end_offset.get(), 5);
    let fatal = Error::new(ErrorKind::Backend, "fenced");
    sim.world().send_event(member.id, Event::Fatal(fatal));
    let begun = Instant::now();
    assert!(member.error().await.to_string().contains("fenced"));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// Rebalances that come meanwhile are answered in their order.
#[tokio::test(start_paused = true)]
async fn rebalances_wait_for_the_starts() {
    for mode in [Mode::Eager, Mode::Incremental] {
        let sim = Sim::new(mode, &["a"], 4);
        (0..4).for_each(|number| sim.produce(&at("a", number), 5));
        let first = sim.member().start();
        sim.settled().await;
        sim.world().weather.faults.lookup_failed = 100;
        let second = sim.member().start();
        sleep(Duration::from_secs(1)).await;
        let third = sim.member().start();
        sleep(Duration::from_secs(20)).await;
        sim.world().weather.faults.lookup_failed = 0;
        sim.all_committed().await;
        sim.settled().await;
        for member in [first, second, third] {
            member.close().await.unwrap();
        }
    }
}

fn latest(sim: &Sim) -> MemberSetup {
    sim.member().set(|s| s.start_from = StartFrom::Latest)
}

/// Somebody adds partitions and produces to them before the processor is back, or has noticed.
#[tokio::test(start_paused = true)]
async fn partitions_that_are_added_begin_at_their_beginning() {
    for is_static in [false, true] {
        let sim = Sim::new(Mode::Eager, &["a"], 2);
        (0..2).for_each(|number| sim.produce(&at("a", number), 5));
        let start = || {
            let all = sim.world().partitions();
            let member = latest(&sim);
            if is_static { member.statics(all).start() } else { member.start() }
        };
        let member = start();
        sim.until("it is committed", |world| world.uncommitted().is_empty()).await;
        member.close().await.unwrap();
        for number in 2..4 {
            sim.world().create_topic_partition("a", number);
            sim.produce(&at("a", number), 5);
        }
        let member = start();
        sim.all_committed().await;
        assert_eq!(sim.processed(&at("a", 1)), Vec::<i64>::new());
        assert_eq!(sim.processed(&at("a", 2)), [0, 1, 2, 3, 4]);
        assert_eq!(sim.processed(&at("a", 3)), [0, 1, 2, 3, 4]);
        member.close().await.unwrap();
    }
}

/// In a group that begins, a member commits before another one has looked: nothing was added.
#[tokio::test(start_paused = true)]
async fn partitions_of_a_slower_member_were_not_added() {
    let sim = Sim::new(Mode::Incremental, &["a"], 4);
    (0..4).for_each(|number| sim.produce(&at("a", number), 5));
    let (first, second) = (latest(&sim).start(), latest(&sim).start());
    sim.give(&[(at("a", 0), first.id), (at("a", 1), first.id)]);
    sim.until("it is committed", |world| world.committed(&at("a", 1)).is_some()).await;
    let all = [(0, first.id), (1, first.id), (2, second.id), (3, second.id)];
    sim.give(&all.map(|(number, id)| (at("a", number), id)));
    sim.until("it is committed", |world| world.committed(&at("a", 3)).is_some()).await;
    sim.settled().await;
    sleep(millis(500)).await;
    for number in 0..4 {
        assert_eq!(sim.processed(&at("a", number)), Vec::<i64>::new());
        assert_eq!(sim.committed(&at("a", number)), Some(5));
    }
    first.close().await.unwrap();
    second.close().await.unwrap();
}

/// A topic that no member has read before begins at its end, whatever the group has of other topics.
#[tokio::test(start_paused = true)]
async fn a_topic_that_is_added_begins_at_its_end() {
    let sim = Sim::new(Mode::Eager, &["a", "b"], 1);
    sim.produce(&at("b", 0), 5);
    sim.world().set_committed(&at("a", 0), 0);
    let member = latest(&sim).start();
    sim.until("it is committed", |world| world.uncommitted().is_empty()).await;
    assert_eq!(sim.processed(&at("b", 0)), Vec::<i64>::new());
    member.close().await.unwrap();
}
