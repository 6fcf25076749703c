//! A Redis Cluster that changes, or cuts connections, while it is written to and read from.

use std::cell::Cell;
use std::process::Stdio;
use std::time::{Duration, Instant};

use kasper::Bytes;
use kasper::store::{RedisConfig, RedisStore, Retry, Store};
use kasper::testkit::{Fault, FaultProxy};
use redis::FromRedisValue;
use tokio::process::Command;

use super::server::{OwnServer, own_cluster, raw};

/// Slots of the first server that go to the second.
const MOVING: u64 = 1000;

async fn ask<T: FromRedisValue>(server: &OwnServer, words: &[&str]) -> T {
    redis::cmd(words[0])
        .arg(&words[1..])
        .query_async(&mut raw(&server.address()).await)
        .await
        .unwrap()
}

async fn connected(servers: &[OwnServer; 3]) -> Retry<RedisStore> {
    // More than one address to learn the others from.
    let some = format!("{},{}", servers[0].address(), servers[2].address());
    let config = RedisConfig::cluster(some, "p").request_timeout(Duration::from_secs(5));
    let store = RedisStore::connect(&config).await.unwrap();
    Retry::new(store).deadline(Duration::from_secs(60))
}

/// Writes all keys and reads them, so often that `is_over` is true and then once more.
async fn write_and_read<S: Store>(
    store: &S,
    keys: &[&str],
    mut is_over: impl FnMut() -> bool,
) -> u32 {
    let (mut round, mut last) = (0_u32, false);
    loop {
        round += 1;
        let value = Some(Bytes::from(format!("round {round}")));
        let changes: Vec<_> = keys.iter().map(|key| (*key, value.clone())).collect();
        store.write_many(&changes).await.unwrap();
        let found = store.get_many(keys).await.unwrap();
        assert_eq!(found.len(), keys.len());
        assert!(found.iter().all(|found| *found == value), "round {round}");
        if last {
            return round;
        }
        last = is_over();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn slots_that_move() {
    let servers = own_cluster().await;
    let store = connected(&servers).await;
    // Nothing of this is an error.
    let store = store.inner();
    let keys: Vec<String> = (0..3000).map(|index| index.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    // The store knows now who has which slot.
    write_and_read(store, &keys, || true).await;
    let before: u64 = ask(&servers[0], &["DBSIZE"]).await;

    let from: String = ask(&servers[0], &["CLUSTER", "MYID"]).await;
    let to: String = ask(&servers[1], &["CLUSTER", "MYID"]).await;
    let mut reshard = Command::new("redis-cli")
        .args(["--cluster", "reshard", &servers[0].address(), "--cluster-yes"])
        .args(["--cluster-from", &from, "--cluster-to", &to])
        .args(["--cluster-slots", &MOVING.to_string()])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let rounds = write_and_read(store, &keys, || reshard.try_wait().unwrap().is_some()).await;
    assert!(reshard.wait().await.unwrap().success());
    assert!(rounds > 2, "the slots had moved before anything was written");
    let after: u64 = ask(&servers[0], &["DBSIZE"]).await;
    assert!(after < before, "{after} of {before} keys are still there");
    let mut everywhere = 0;
    for server in &servers {
        everywhere += ask::<u64>(server, &["DBSIZE"]).await;
    }
    assert_eq!(everywhere, keys.len() as u64);
}

/// A proxy before each server, whose port the servers tell instead of their own.
async fn proxies(servers: &[OwnServer; 3]) -> Vec<FaultProxy> {
    let mut proxies = Vec::new();
    for server in servers {
        let proxy = FaultProxy::start(server.address()).await.unwrap();
        let port = proxy.address().port();
        server.command(&format!("CONFIG SET cluster-announce-port {port}")).await;
        proxies.push(proxy);
    }
    // They tell each other with their next messages.
    for server in servers {
        let knows_all = async || {
            let nodes: String = ask(server, &["CLUSTER", "NODES"]).await;
            let knows =
                |proxy: &FaultProxy| nodes.contains(&format!(":{}@", proxy.address().port()));
            proxies.iter().all(knows)
        };
        while !knows_all().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    proxies
}

/// The driver has a connection to each server, and tasks of its own above them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn a_write_that_was_given_up_is_not_made_later() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let servers = own_cluster().await;
    let proxies = proxies(&servers).await;
    let config =
        RedisConfig::cluster(proxies[0].address().to_string(), "p").request_timeout(TIMEOUT);
    let store = RedisStore::connect(&config).await.unwrap();
    // Of every server some.
    let keys: Vec<String> = (0..100).map(|index| index.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let changes = |value: &'static str| -> Vec<_> {
        keys.iter().map(|key| (*key, Some(Bytes::from(value)))).collect()
    };
    store.write_many(&changes("1")).await.unwrap();
    proxies.iter().for_each(|proxy| proxy.set(Fault::Hold));
    // Of each way to send: alone, and in a pipeline.
    let alone = async { store.put("alone", "2").await.unwrap_err() };
    let together = async { store.write_many(&changes("2")).await.unwrap_err() };
    let others = async {
        tokio::time::sleep(TIMEOUT / 2).await;
        let began = Instant::now();
        store.get_many(&keys).await.unwrap();
        assert!(began.elapsed() < TIMEOUT, "{:?}", began.elapsed());
    };
    let writes = async {
        let (one, other) = tokio::join!(alone, together);
        for error in [one, other] {
            assert!(error.is_retryable(), "{error:?}");
        }
        store.put("alone", "3").await.unwrap();
        store.write_many(&changes("3")).await.unwrap();
        proxies.iter().for_each(|proxy| proxy.set(Fault::None));
    };
    tokio::join!(writes, others);
    let expected = Some(Bytes::from("3"));
    assert_eq!(store.get("alone").await.unwrap(), expected);
    assert!(store.get_many(&keys).await.unwrap().iter().all(|found| *found == expected));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn connections_that_are_cut() {
    let servers = own_cluster().await;
    let store = connected(&servers).await;
    let keys: Vec<String> = (0..3000).map(|index| index.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    write_and_read(&store, &keys, || true).await;

    let rounds = Cell::new(0);
    let cut = async {
        let mut cut = 0_u64;
        let began = Instant::now();
        // Until something has come through between two cuts, too.
        while cut < 100 || rounds.get() == 0 {
            assert!(began.elapsed() < Duration::from_secs(120), "only {cut} were there to be cut");
            for server in &servers {
                let kill = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
                cut += ask::<u64>(server, &kill).await;
            }
            // Longer and longer: a busy machine needs more time for a round.
            tokio::time::sleep(Duration::from_millis(7 + cut / 10)).await;
        }
    };
    tokio::pin!(cut);
    loop {
        tokio::select! {
            () = &mut cut => break,
            more = write_and_read(&store, &keys, || true) => rounds.set(rounds.get() + more),
        }
    }
    write_and_read(&store, &keys, || true).await;
}
