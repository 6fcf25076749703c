//! A process that writes to a local store is killed, over and over: every write that it acknowledged is
//! there, whole, and no write is there by half.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests and what they print")]

mod directory;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use directory::Directory;
use kasper::store::{LocalConfig, LocalStore, Store};
use kasper::{Bytes, ErrorKind};

/// Says to the test's own program that it is the child, and where the database is.
const CHILD: &str = "KASPER_TEST_LOCAL_CHILD";
/// How often to kill, if it is to be more often than usual.
const KILLS: &str = "KASPER_TEST_LOCAL_KILLS";
const ACK: &str = "acknowledged ";
const KEYS: usize = 50;

/// Tables are small, so that they are written and merged while the process is killed.
fn config(directory: &str, sync: bool) -> LocalConfig {
    LocalConfig::new(directory).memtable_bytes(200_000).sync(sync)
}

fn keys() -> Vec<String> {
    (0..KEYS).map(|key| format!("k{key}")).collect()
}

/// Each write sets all keys to its number, and the number's own key; of different lengths, so that a kill
/// falls into small writes and large ones.
async fn write_until_killed(directory: &str, sync: bool) {
    let store = LocalStore::open(&config(directory, sync)).await.unwrap();
    let last = store.get("k0").await.unwrap();
    let first = last.map_or(0, |value| number_of(&value) + 1);
    for number in first.. {
        let text = format!("{number} {}", "x".repeat((number * 37) % 3000));
        let (value, own, keys) = (Some(Bytes::from(text)), format!("number-{number}"), keys());
        let mut changes: Vec<_> = keys.iter().map(|key| (&**key, value.clone())).collect();
        changes.push((&own, Some(Bytes::new())));
        store.write_many(&changes).await.unwrap();
        if !sync && number % 10 == 0 {
            store.flush().await.unwrap();
        }
        println!("{ACK}{number}");
        std::io::stdout().flush().unwrap();
    }
}

fn number_of(value: &[u8]) -> usize {
    let text = std::str::from_utf8(value).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// What does not fit into the 70 MB that a file of the child may have; the journal is one.
fn too_much() -> Vec<(String, Bytes)> {
    let mut state = 1u64;
    // Not to be compressed.
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_le_bytes()[7]
    };
    let mut value = |_| (0..20 << 20).map(|_| noise()).collect::<Bytes>();
    (0..4).map(|key| (format!("large-{key}"), value(key))).collect()
}

async fn fill_the_disk(directory: &str) {
    let store = LocalStore::open(&LocalConfig::new(directory)).await.unwrap();
    store.put("a", "1").await.unwrap();
    let large = too_much();
    let changes: Vec<_> = large.iter().map(|(key, value)| (&**key, Some(value.clone()))).collect();
    let error = store.write_many(&changes).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::NoSpace, false), "{error:?}");
    assert_eq!(error.get("operation"), Some("write_many"));
    let error = store.put("b", "2").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Backend, false), "{error:?}");
    assert!(error.to_string().contains("opened again"), "{error}");
    assert_eq!(
        store.get_many(&["a", "b", "large-0"]).await.unwrap(),
        [Some("1".into()), None, None]
    );
}

/// The shell's `ulimit` stands for the end of the disk; without the trap the system would end the process.
#[tokio::test]
async fn a_full_disk_is_an_error_and_what_was_written_stays() {
    if let Ok(directory) = std::env::var(CHILD) {
        return fill_the_disk(&directory).await;
    }
    let directory = Directory::new();
    let limited = Command::new("bash")
        .args(["-c", r#"trap "" XFSZ; ulimit -f 70000; exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_full_disk_is_an_error_and_what_was_written_stays", "--nocapture"])
        .env(CHILD, directory.path())
        .output()
        .unwrap();
    assert!(limited.status.success(), "{limited:?}");
    let store = LocalStore::open(&directory.config()).await.unwrap();
    let found = store.get_many(&["a", "b", "large-0", "large-3"]).await.unwrap();
    assert_eq!(found, [Some("1".into()), None, None, None], "all of a write or nothing");
    store.put("b", "2").await.unwrap();
}

fn child(test: &str, directory: &Directory) -> (Child, impl Iterator<Item = usize> + use<>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The test's name may stand before the first, without an end of line; the last may be cut off.
    let acks = lines.map_while(|line| {
        let line = line.unwrap();
        Some(line.split_once(ACK).map(|(_, number)| number.parse().unwrap()))
    });
    (child, acks.flatten())
}

/// Kills children after so many acknowledgements, and looks at what they left each time.
async fn kill_over_and_over(test: &str, sync: bool, kills: usize) {
    if let Ok(directory) = std::env::var(CHILD) {
        return write_until_killed(&directory, sync).await;
    }
    let kills = std::env::var(KILLS).map_or(kills, |kills| kills.parse().unwrap());
    let directory = Directory::new();
    let mut known = 0;
    for round in 0..kills {
        let (mut child, mut acks) = child(test, &directory);
        let acknowledged = acks.nth((round * 7) % 40).unwrap();
        if round == 0 {
            let error = LocalStore::open(&directory.config()).await.unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true));
            assert_eq!(error.get("directory"), directory.path().to_str());
            assert!(error.to_string().contains("another process"), "{error}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged = acks.last().unwrap_or(acknowledged);
        known = known.max(check(&directory, acknowledged, sync).await);
    }
    println!("{kills} kills, {known} writes");
    assert!(known >= kills, "{known} writes");
}

async fn check(directory: &Directory, acknowledged: usize, sync: bool) -> usize {
    let store = LocalStore::open(&config(directory.path().to_str().unwrap(), sync)).await.unwrap();
    let keys = keys();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let values = store.get_many(&keys).await.unwrap();
    let numbers: Vec<usize> =
        values.iter().map(|value| number_of(value.as_ref().unwrap())).collect();
    let last = numbers[0];
    assert!(numbers.iter().all(|number| *number == last), "half a write: {numbers:?}");
    // One may have been written and its acknowledgement not.
    assert!((acknowledged..=acknowledged + 1).contains(&last), "{acknowledged} is, {last} was");
    let own: Vec<String> = (0..=last + 1).map(|number| format!("number-{number}")).collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let found = store.get_many(&own).await.unwrap();
    let missing = found.iter().position(Option::is_none);
    assert_eq!(missing, Some(last + 1), "a write before {last} is missing");
    store.close().await.unwrap();
    last
}

#[tokio::test]
async fn synced_writes_survive_kills() {
    kill_over_and_over("synced_writes_survive_kills", true, 6).await;
}

#[tokio::test]
async fn writes_that_returned_survive_kills() {
    kill_over_and_over("writes_that_returned_survive_kills", false, 12).await;
}
