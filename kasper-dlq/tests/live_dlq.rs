//! The program on a real Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod dlq;
mod quarantine;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::{Duration, Instant, UNIX_EPOCH};

use dlq::{Ran, Topics, brokers, signal};
use kasper::testkit::TestMessage;
use kasper::{
    Batch, BoxError, Circuit, Context, ErrorPolicy, OnError, Processor, Report, TopicProcessor,
};
use serde_json::{Value, json};

/// A time of the run, which brokers don't find too old to keep.
static TIME: LazyLock<i64> = LazyLock::new(|| {
    let now = UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(now.as_millis()).unwrap() - 1_000_000
});

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn letters_are_counted_and_listed() {
    let topics = Topics::create("list").await;
    topics.send_numbers(0, 6).await;
    let other = topics.letter(TestMessage::new("").key("k").value("x"), 3, "not decodable");
    let stray = TestMessage::new(topics.letters.as_str()).value("not a letter");
    topics.client.send_all([other, stray]).await.unwrap();

    let ran = topics.run("list", &[]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<&str> = ran.out.lines().collect();
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    let times = ["2026-12-01T03:33:20.123Z", "2026-12-01T03:33:23.123Z"];
    assert_eq!(
        words,
        [topics.source.as_str(), "process", "failed", "billing", "6", times[0], times[1]]
    );
    assert!(lines[2].contains("not decodable") && lines[3] == "7 letters, 1 not letters");

    let json: Value = serde_json::from_str(&topics.run("list", &["--json"]).await.out).unwrap();
    assert_eq!((&json["letters"], &json["not_letters"]), (&json!(7), &json!(1)));
    assert_eq!(json["groups"][1]["kind"], "not decodable");

    let ran = topics.run("list", &["--letters", "--kind", "not decodable"]).await;
    let expected = format!(
        "1:3  {}  {}/3@1289  not decodable  not decodable: no such currency\n",
        times[1], topics.source
    );
    assert_eq!(ran.out, expected);
    let ran = topics.run("list", &["--letters", "--json", "--key", "4"]).await;
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&json["key"]["text"], &json["source"]["partition"]), (&json!("4"), &json!(0)));
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn each_filter_reaches_the_broker() {
    let topics = Topics::create("filter").await;
    topics.send_numbers(0, 8).await;
    for (arguments, letters) in [
        (&["--partition", "1"][..], 4),
        (&["--source-topic", &topics.source], 8),
        (&["--source-topic", "other"], 0),
        (&["--processor", "billing", "--key", "3", "--key", "5"], 2),
        (&["--since", "2026-12-01T03:33:22Z"], 4),
        (&["--until", "2026-12-01T03:33:21Z", "--contains", "XYZ"], 2),
    ] {
        let ran = topics.run("list", &[&["--json"], arguments].concat()).await;
        let json: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(json["letters"], letters, "{arguments:?}: {ran:?}");
    }
    let ran = topics.replay(&["--since", "2026-12-01T03:33:22Z"]).await;
    assert!(ran.out.contains("replayed 4 messages\n4 filtered out"), "{ran:?}");
    assert_eq!(topics.numbers().await, [2, 6, 3, 7]);
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_letter_is_shown_with_all_it_has() {
    let topics = Topics::create("show").await;
    let original = TestMessage::new("").key("k").value(r#"{"amount":1.50}"#).null_header("note");
    let letters = [
        topics.letter(original.timestamp(*TIME), 0, "process failed"),
        topics.letter(TestMessage::new("").value(&[0, 0xff]), 0, "process panicked"),
    ];
    topics.client.send_all(letters).await.unwrap();
    let ran = topics.run("show", &["0", "0"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for part in [
        "Letter 0:0\n",
        &format!("  source     {}, partition 0, offset 1289\n", topics.source),
        "  causes     no such currency\n             XYZ\n",
        "Headers: 1\n  note: null\n",
        "Value: JSON, 15 bytes\n  {\n    \"amount\": 1.50\n  }\n",
    ] {
        assert!(ran.out.contains(part), "{part} in {}", ran.out);
    }
    let ran = topics.run("show", &["0:1", "0:0", "--json"]).await;
    let lines: Vec<Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["value"], json!({ "bytes": 2, "base64": "AP8=" }));
    assert_eq!((&lines[1]["offset"], &lines[0]["key"]), (&json!(0), &Value::Null));
    let ran = topics.run("show", &["0:1", "1:7", "9:0"]).await;
    assert!(ran.code == Some(1) && ran.out.contains("00000000  00 ff "), "{ran:?}");
    assert!(ran.err.contains("no offset 7") && ran.err.contains("no partition 9"), "{ran:?}");
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_dry_run_sends_and_commits_nothing() {
    let topics = Topics::create("dry").await;
    topics.send_numbers(0, 8).await;
    let ran = topics.run("replay", &["--dry-run", "--limit", "3"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let expected = format!(
        "8 messages to replay; of these the first 3 (--limit)\n  8  to {}  partitions 0, 1, 2, 3\n\
         group kasper-dlq.{}\ndry run: nothing was sent\n",
        topics.source, topics.letters
    );
    assert_eq!(ran.out, expected);
    assert_eq!(topics.numbers().await, [0; 0]);
    assert_eq!(topics.committed(), BTreeMap::from([(0, 0), (1, 0)]));
    // Nor without a terminal to ask at.
    let ran = topics.run("replay", &[]).await;
    assert!(ran.code == Some(1) && ran.err.contains("--yes"), "{ran:?}");
    assert_eq!(topics.numbers().await, [0; 0]);
}

/// A message of every kind, with a number of its own as its timestamp.
fn originals() -> Vec<TestMessage> {
    let new = || TestMessage::new("");
    let all = [
        new(),
        new().key("").value(""),
        new().key("k"),
        new().value(&[0, 0xff, 0xfe, b'\n']),
        new().key(&[0xff; 300]).value("größer").null_header("null").header("empty", ""),
        new().key("k").value("v").header("via", "a").header("via", &[0xff, 0]).header("via", "a"),
        new().value("again").header("kasper.redriven", "1").header("x", "y"),
    ];
    (0..).zip(all).map(|(number, message)| message.timestamp(*TIME + number)).collect()
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn messages_come_back_byte_for_byte() {
    let topics = Topics::create("exact").await;
    let letters =
        originals().into_iter().map(|message| topics.letter(message, 2, "process failed"));
    topics.client.send_all(letters).await.unwrap();
    let ran = topics.replay(&[]).await;
    assert_eq!(ran.out, "replayed 7 messages\n");
    let sent = topics.read(&topics.source).await;
    assert_eq!(sent.len(), originals().len());
    for (sent, mut original) in sent.into_iter().zip(originals()) {
        let replays = if original.header_text("kasper.redriven").is_some() { "2" } else { "1" };
        original.headers.retain(|(name, _)| name != "kasper.redriven");
        let original = original
            .header("kasper.redriven", replays)
            .header("kasper.redriven.from", format!("{}/2/1289", topics.source));
        let mut expected = original.partition(2);
        (expected.topic, expected.offset) = (topics.source.clone(), sent.offset);
        assert_eq!(sent, expected);
    }
    // All is done: the same command has nothing left to do, and another one begins at the beginning.
    let ran = topics.replay(&[]).await;
    assert!(ran.out.starts_with("nothing to replay"), "{ran:?}");
    let ran = topics.replay(&["--group", &format!("{}-other", topics.letters), "--key", "k"]).await;
    assert!(ran.out.starts_with("replayed 2 messages"), "{ran:?}");
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn an_interrupted_replay_is_continued_without_doubles() {
    let topics = Topics::create("interrupt").await;
    topics.send_numbers(0, 300).await;
    let child = topics.start("replay", &["--yes", "--rate", "60"]);
    topics.arrived(20).await;
    signal(&child, "-INT").await;
    let ran = Ran::end_of(child).await;
    assert!(ran.code == Some(130) && ran.out.contains("interrupted; the same command"), "{ran:?}");
    let (first, committed) = (topics.numbers().await, topics.committed());
    let done: i64 = committed.values().sum();
    assert_eq!(first.len() as i64, done, "{ran:?}");
    assert!((20..300).contains(&first.len()), "{first:?}");
    assert!(ran.out.contains(&format!("replayed {done} messages")), "{ran:?}");

    let ran = topics.replay(&[]).await;
    assert!(ran.out.contains(&format!("replayed {} messages", 300 - done)), "{ran:?}");
    let mut all = topics.numbers().await;
    // In each partition, the order is kept.
    let expected: Vec<i32> = (0..4).flat_map(|p| (0..300).filter(move |n| n % 4 == p)).collect();
    assert_eq!(all, expected);
    all.sort_unstable();
    assert_eq!(all, (0..300).collect::<Vec<_>>());
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn after_a_crash_only_what_was_not_committed_comes_twice() {
    let topics = Topics::create("crash").await;
    topics.send_numbers(0, 300).await;
    let child = topics.start("replay", &["--yes", "--rate", "40"]);
    topics.arrived(60).await;
    signal(&child, "-KILL").await;
    assert_eq!(Ran::end_of(child).await.code, None);
    let committed = topics.committed();
    assert!(committed.values().sum::<i64>() > 0, "{committed:?}");

    topics.replay(&[]).await;
    let mut times = BTreeMap::new();
    topics.numbers().await.into_iter().for_each(|number| *times.entry(number).or_insert(0) += 1);
    assert_eq!(times.len(), 300);
    for (number, times) in times {
        // Where the letter is: two source partitions share a partition, in turns.
        let (partition, offset) = (number % 2, i64::from(number / 2));
        let most = if offset < committed[&partition] { 1 } else { 2 };
        assert!(times <= most, "{number} came {times} times, {committed:?}");
    }
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_message_is_replayed_only_so_often() {
    let topics = Topics::create("loop").await;
    let original = TestMessage::new("").key("k").value("v");
    topics.client.send(topics.letter(original, 0, "process failed")).await.unwrap();
    for replays in 1..=3 {
        let ran = topics.replay(&[]).await;
        assert_eq!(ran.out, "replayed 1 message\n");
        let sent = topics.read(&topics.source).await.pop().unwrap();
        assert_eq!(sent.header_text("kasper.redriven"), Some(replays.to_string().as_str()));
        // It fails again.
        let mut again = sent;
        again.offset = None;
        topics.client.send(topics.letter(again, 0, "process failed")).await.unwrap();
    }
    let ran = topics.replay(&[]).await;
    let left = "replayed 0 messages\n1 left: replayed 3 times or more already (--max-replays)\n";
    assert_eq!(ran.out, left);
    assert_eq!(topics.read(&topics.source).await.len(), 3);
    let ran =
        topics.replay(&["--group", &topics.source, "--max-replays", "4", "--limit", "1"]).await;
    assert!(ran.out.starts_with("replayed 1 message\n"), "{ran:?}");
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn letters_that_come_during_a_replay_are_left_for_the_next_one() {
    let topics = Topics::create("later").await;
    topics.send_numbers(0, 60).await;
    let child = topics.start("replay", &["--yes", "--rate", "30"]);
    topics.arrived(5).await;
    topics.send_numbers(60, 20).await;
    let begun = Instant::now();
    let ran = Ran::end_of(child).await;
    // It does not wait for what it leaves.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "replayed 60 messages\n"), "{ran:?}");
    assert_eq!(topics.committed(), BTreeMap::from([(0, 30), (1, 30)]));
    let ran = topics.replay(&[]).await;
    assert_eq!(ran.out, "replayed 20 messages\n");
    let all: BTreeSet<i32> = topics.numbers().await.into_iter().collect();
    assert_eq!((all.len(), topics.numbers().await.len()), (80, 80));
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_limit_is_kept_and_the_rest_comes_next_time() {
    let topics = Topics::create("limit").await;
    topics.send_numbers(0, 25).await;
    for (replayed, all) in [(10, 10), (10, 20), (5, 25)] {
        let ran = topics.replay(&["--limit", "10"]).await;
        assert!(ran.out.contains(&format!("replayed {replayed} messages")), "{ran:?}");
        assert_eq!(ran.out.contains("ended at --limit"), replayed == 10, "{ran:?}");
        assert_eq!(topics.numbers().await.len(), all);
    }
    let all: BTreeSet<i32> = topics.numbers().await.into_iter().collect();
    assert_eq!(all.len(), 25);
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_rate_is_kept() {
    let topics = Topics::create("rate").await;
    topics.send_numbers(0, 60).await;
    let begun = Instant::now();
    let ran = topics.replay(&["--rate", "20"]).await;
    // The first one goes at once.
    assert!(begun.elapsed() >= Duration::from_millis(2900), "{:?}", begun.elapsed());
    assert_eq!(ran.out, "replayed 60 messages\n");
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_partition_that_is_gone_stops_the_replay_and_keys_choose_on_demand() {
    let topics = Topics::create("gone").await;
    topics.send_numbers(0, 4).await;
    let lost = topics.letter(TestMessage::new("").key("k").value("99"), 6, "process failed");
    topics.client.send(lost).await.unwrap();
    let ran = topics.run("replay", &["--dry-run"]).await;
    let expected = format!("topic `{}` has no partition 6 any more (it has 4)", topics.source);
    assert!(ran.code == Some(1) && ran.err.contains(&expected), "{ran:?}");
    let ran = topics.run("replay", &["--yes"]).await;
    assert!(ran.code == Some(1) && ran.err.contains(&expected), "{ran:?}");
    assert!(ran.out.contains("\n1 failed\n"), "{ran:?}");
    let before = topics.numbers().await;
    assert!(!before.contains(&99));
    topics.replay(&["--repartition"]).await;
    let mut all = topics.numbers().await;
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 99]);
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_replay_goes_elsewhere_on_demand() {
    let (topics, other) = (Topics::create("to").await, Topics::create("other").await);
    topics.send_numbers(0, 10).await;
    let stray = TestMessage::new(topics.letters.as_str()).value("not a letter");
    topics.client.send(stray).await.unwrap();
    let ran = topics.replay(&["--to", &other.source]).await;
    assert_eq!(ran.out, "replayed 10 messages\n1 not letters\n");
    let partitions: BTreeSet<_> =
        topics.read(&other.source).await.iter().map(|m| (m.key.clone(), m.partition)).collect();
    assert_eq!((partitions.len(), topics.numbers().await.len()), (10, 0));
    let wrong = topics.run("replay", &["--yes", "--to", "no-such-topic"]).await;
    assert!(
        wrong.code == Some(1) && wrong.err.contains("`no-such-topic` does not exist"),
        "{wrong:?}"
    );
    let wrong = topics.run("replay", &["--yes", "--to", &topics.letters]).await;
    assert!(wrong.code == Some(1) && wrong.err.contains("dead letter topic itself"), "{wrong:?}");
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn two_processes_share_a_replay() {
    let topics = Topics::create("two").await;
    topics.send_numbers(0, 200).await;
    let start = || topics.start("replay", &["--yes", "--rate", "40"]);
    let (one, other) = (start(), start());
    let (one, other) = tokio::join!(Ran::end_of(one), Ran::end_of(other));
    assert_eq!((one.code, other.code), (Some(0), Some(0)), "{one:?} {other:?}");
    let all: BTreeSet<i32> = topics.numbers().await.into_iter().collect();
    assert_eq!((all.len(), topics.numbers().await.len()), (200, 200), "{one:?} {other:?}");
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_topic_that_does_not_exist_is_named() {
    for command in ["list", "replay"] {
        let mut program = dlq::program();
        program.args([command, "no-such-dlq", "--brokers", &brokers()]);
        if command == "replay" {
            program.arg("--yes");
        }
        let ran = Ran::of(program.output().await.unwrap());
        assert!(ran.code == Some(1) && ran.err.contains("`no-such-dlq` does not exist"), "{ran:?}");
    }
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_replay_at_full_speed_is_interrupted_without_doubles() {
    const COUNT: i32 = 10_000;
    let topics = Topics::create("speed").await;
    topics.send_numbers(0, COUNT).await;
    let child = topics.start("replay", &["--yes"]);
    topics.arrived(500).await;
    signal(&child, "-INT").await;
    let ran = Ran::end_of(child).await;
    let done: i64 = topics.committed().values().sum();
    assert_eq!(topics.numbers().await.len() as i64, done, "{ran:?}");
    assert!(ran.out.starts_with(&format!("replayed {done} messages\n")), "{ran:?}");
    topics.replay(&[]).await;
    let all = topics.numbers().await;
    let expected: Vec<i32> = (0..4).flat_map(|p| (0..COUNT).filter(move |n| n % 4 == p)).collect();
    assert!(all == expected, "{} of {COUNT}", all.len());
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_message_that_cannot_be_delivered_stops_the_replay_before_it() {
    let topics = Topics::create("large").await;
    topics.send_numbers(0, 4).await;
    let large = TestMessage::new("").key("k").value(format!("{:05000}", 99));
    topics.client.send(topics.letter(large, 0, "process failed")).await.unwrap();
    topics.send_numbers(4, 4).await;
    let ran = topics.run("replay", &["--yes", "--property", "message.max.bytes=2000"]).await;
    assert!(ran.code == Some(1) && ran.out.contains("\n1 failed\n"), "{ran:?}");
    assert!(ran.err.contains(&topics.source) && ran.err.contains("message.max.bytes"), "{ran:?}");
    assert_eq!(topics.committed()[&0], 2, "{ran:?}");
    topics.replay(&[]).await;
    let all: BTreeSet<i32> = topics.numbers().await.into_iter().collect();
    assert_eq!(all, BTreeSet::from([0, 1, 2, 3, 4, 5, 6, 7, 99]));
}

/// Fails for even numbers, if it is strict.
struct Odd {
    is_strict: bool,
}

impl Processor for Odd {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        for message in batch.iter() {
            let number: u32 = std::str::from_utf8(message.value().unwrap_or_default())?.parse()?;
            if self.is_strict && number.is_multiple_of(2) {
                return Err("an even number".into());
            }
        }
        Ok(())
    }
}

/// Processes what there is in the source topic.
async fn process(topics: &Topics, is_strict: bool) -> Report {
    let policy = ErrorPolicy::new(OnError::dead_letter(&topics.letters));
    let processor = TopicProcessor::builder(&topics.source, [&topics.source])
        .brokers(brokers())
        .partitions(0..4)
        .on_error(policy.circuit(Circuit::new().never()))
        .build(move |_| Odd { is_strict })
        .await
        .unwrap();
    processor.run_until_caught_up().await.unwrap()
}

/// The library writes letters, the program replays them, and the processor gets them again.
#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn what_a_processor_rejected_comes_back_to_it() {
    let topics = Topics::create("round-trip").await;
    let number = |number: i32| {
        let message = TestMessage::new(&*topics.source).partition(number / 2 % 4);
        message.key(number.to_string()).value(number.to_string()).header("own", "1")
    };
    topics.client.send_all((0..40).map(number)).await.unwrap();
    let report = process(&topics, true).await;
    assert_eq!((report.messages, report.rejected), (40, 20));
    topics.replay(&[]).await;
    // Not mended yet.
    let report = process(&topics, true).await;
    assert_eq!((report.messages, report.rejected), (20, 20));
    topics.replay(&[]).await;
    let report = process(&topics, false).await;
    assert_eq!((report.messages, report.rejected), (20, 0));

    let letters = topics.read(&topics.letters).await;
    let replayed =
        |letter: &TestMessage| letter.header_text("kasper.error.replayed").map(str::to_owned);
    let counts: Vec<String> = letters.iter().filter_map(replayed).collect();
    assert_eq!(counts.iter().filter(|count| *count == "0").count(), 20);
    assert_eq!(counts.iter().filter(|count| *count == "1").count(), 20);
    let messages = topics.read(&topics.source).await;
    let last = messages.iter().filter(|m| m.header_text("kasper.redriven") == Some("2"));
    let headers: Vec<_> = last.map(|message| message.headers.len()).collect();
    assert_eq!(headers, [3; 20], "its own header, the number of replays and where it came from");
}
