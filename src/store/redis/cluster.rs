//! Pipelines in a cluster: divided among its servers, a part for each.
//!
//! The driver sends a pipeline to one server only, and commands one by one cost several times as much. So it is
//! told, for each part, which server to send it to. What a server does not have any more is found by its
//! answer, and then sent by itself, in the way that the driver follows redirections: a map of the slots that is
//! out of date makes calls slower, never wrong.
//!
//! The driver sends a command again by itself when a connection breaks or a slot has moved, as long as its caller waits.
//! All of that happens on the connection's own [thread](super::thread), and ends with it: a write that was given up is
//! not sent again.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crc::{CRC_16_XMODEM, Crc, Table};
use futures_util::future::join_all;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, Slot, SlotAddr};
use redis::{Arg, Cmd, Pipeline, RedisResult, Value};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::command::{Commands, Failed};
use crate::concurrent::in_order;
use crate::lock::Mutex;

/// Requests to the driver under way at a time, of all calls together. A part counts once, however many commands it
/// has.
///
/// When a slot has moved, the driver asks for the slots' servers, and lets none of its requests go on until it has the
/// answer (redis 1.8). With many of them nothing goes on again, for one of two reasons: the question stands behind 50
/// requests that wait for the connection's room; or it waits for a lock that one of the requests has got, but cannot
/// give back. That one was stopped by tokio's budget of 128 steps for each turn of the driver's task, which takes
/// the lock first and stops then (tokio 1.54). A request takes up to five steps in a turn: received, locked, sent,
/// answered, sent once more.
const CONCURRENCY: usize = 16;

/// A connection to a cluster, and which slots are together on a server. Clones share both.
#[derive(Clone)]
pub(super) struct Cluster {
    connection: ClusterConnection,
    room: Arc<Semaphore>,
    /// `None` when it is to be asked for.
    owners: Arc<Mutex<Option<Arc<Owners>>>>,
}

/// By the number of the slot, which of the servers has it.
type Owners = Vec<Option<u16>>;

const SLOTS: u16 = 16_384;

/// Commands that go to the same server.
struct Part {
    route: Route,
    indexes: Vec<usize>,
    pipeline: Pipeline,
}

impl Cluster {
    pub(super) fn new(connection: ClusterConnection) -> Self {
        Self { connection, room: Arc::new(Semaphore::new(CONCURRENCY)), owners: Arc::default() }
    }

    /// Waits for room.
    async fn connection(&self) -> (ClusterConnection, Option<SemaphorePermit<'_>>) {
        // Nobody closes the semaphore.
        let permit = self.room.acquire().await.ok();
        (self.connection.clone(), permit)
    }

    /// Sets `is_sent` when the driver has the command, before which nothing is sent.
    pub(super) async fn run_one(&self, command: &Cmd, is_sent: &AtomicBool) -> RedisResult<Value> {
        let (mut connection, _permit) = self.connection().await;
        is_sent.store(true, Ordering::Relaxed);
        command.query_async(&mut connection).await
    }

    /// The commands' answers, in their order. Sets `is_sent` when the driver has the first of them.
    pub(super) async fn run(
        &self,
        commands: &Commands<'_>,
        is_sent: &AtomicBool,
    ) -> Result<Vec<Value>, Failed> {
        let owners = if commands.count() > 1 { self.owners().await } else { None };
        let Some(owners) = owners else {
            return self.each(commands, 0..commands.count(), is_sent).await;
        };
        let parts = divided(commands, &owners).into_iter().map(async |part| {
            let route = SingleNodeRoutingInfo::SpecificNode(part.route);
            let count = part.indexes.len();
            let (mut connection, _permit) = self.connection().await;
            is_sent.store(true, Ordering::Relaxed);
            let answers = connection.route_pipeline(part.pipeline, 0, count, route).await;
            (part.indexes, answers.unwrap_or_default())
        });
        let mut values = vec![Value::Nil; commands.count()];
        let mut again = Vec::new();
        for (indexes, answers) in join_all(parts).await {
            let mut answers = answers.into_iter();
            for index in indexes {
                match answers.next() {
                    Some(answer) if !matches!(answer, Value::ServerError(_)) => {
                        values[index] = answer;
                    }
                    // The slot has moved, or the command is refused, or the server is gone.
                    _ => again.push(index),
                }
            }
        }
        if again.is_empty() {
            return Ok(values);
        }
        self.forget_owners();
        let answers = self.each(commands, again.iter().copied(), is_sent).await?;
        for (index, value) in again.into_iter().zip(answers) {
            values[index] = value;
        }
        Ok(values)
    }

    /// Each of these commands by itself, many at a time.
    async fn each(
        &self,
        commands: &Commands<'_>,
        indexes: impl Iterator<Item = usize>,
        is_sent: &AtomicBool,
    ) -> Result<Vec<Value>, Failed> {
        let mut running = Vec::new();
        for index in indexes {
            running.push(async move {
                let answer = self.run_one(&commands.make(index), is_sent).await;
                Ok::<_, Infallible>(answer.map_err(|error| (error, Some(index))))
            });
        }
        // An error is an answer here: the other commands are sent all the same.
        let Ok(answers) = in_order(CONCURRENCY, running).await;
        answers.into_iter().collect()
    }

    /// `None` if no server tells; commands then go one by one, and the driver says what is wrong.
    async fn owners(&self) -> Option<Arc<Owners>> {
        if let Some(owners) = &*self.owners.lock() {
            return Some(Arc::clone(owners));
        }
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let anywhere = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
        let (mut connection, permit) = self.connection().await;
        let answer = connection.route_command(command, anywhere).await.ok()?;
        drop(permit);
        let owners = Arc::new(owners(&answer)?);
        *self.owners.lock() = Some(Arc::clone(&owners));
        Some(owners)
    }

    fn forget_owners(&self) {
        *self.owners.lock() = None;
    }
}

/// From the answer to `CLUSTER SLOTS`: ranges with first slot, last slot, the server, its replicas.
fn owners(answer: &Value) -> Option<Owners> {
    let Value::Array(ranges) = answer else { return None };
    let mut servers: Vec<&[Value]> = Vec::new();
    let mut owners: Owners = vec![None; usize::from(SLOTS)];
    for range in ranges {
        let Value::Array(range) = range else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(server), ..] = range.as_slice()
        else {
            return None;
        };
        // Host and port.
        let server = server.get(..2)?;
        let known = servers.iter().position(|other| *other == server);
        let number = known.unwrap_or_else(|| {
            servers.push(server);
            servers.len() - 1
        });
        let slots = usize::try_from(*first).ok()?..=usize::try_from(*last).ok()?;
        owners.get_mut(slots)?.fill(Some(u16::try_from(number).ok()?));
    }
    Some(owners)
}

/// The commands by server. Those whose slot nobody has make parts of their own.
fn divided(commands: &Commands<'_>, owners: &Owners) -> Vec<Part> {
    let mut numbers: Vec<Option<usize>> = Vec::new();
    let mut parts: Vec<Part> = Vec::new();
    for index in 0..commands.count() {
        let command = commands.make(index);
        let slot = slot(key(&command));
        let new = parts.len();
        let number = match owners.get(usize::from(slot)).copied().flatten() {
            Some(owner) => {
                let owner = usize::from(owner);
                numbers.resize(numbers.len().max(owner + 1), None);
                *numbers[owner].get_or_insert(new)
            }
            None => new,
        };
        if number == new {
            let route = Slot::new(slot).map(|slot| Route::with_slot(slot, SlotAddr::Master));
            let route = route.unwrap_or_else(|| Route::with_key(key(&command), SlotAddr::Master));
            parts.push(Part { route, indexes: Vec::new(), pipeline: Pipeline::new() });
        }
        parts[number].indexes.push(index);
        parts[number].pipeline.add_command(command);
    }
    parts
}

/// What stands behind the command's name.
fn key(command: &Cmd) -> &[u8] {
    match command.args_iter().nth(1) {
        Some(Arg::Simple(key)) => key,
        _ => &[],
    }
}

/// A key's slot: CRC-16/XMODEM of what stands between the first `{` and the `}` behind it, or of all where nothing
/// does. From the [cluster specification](https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).
///
/// The driver has this function, but does not show the number, and computes it a byte at a time: in a profile it was
/// the largest part of reading many keys.
fn slot(key: &[u8]) -> u16 {
    static CRC: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_XMODEM);
    CRC.checksum(tag(key).unwrap_or(key)) % SLOTS
}

fn tag(key: &[u8]) -> Option<&[u8]> {
    let begin = key.iter().position(|byte| *byte == b'{')? + 1;
    let length = key[begin..].iter().position(|byte| *byte == b'}')?;
    (length > 0).then(|| &key[begin..begin + length])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(first: i64, last: i64, port: i64) -> Value {
        let host = || Value::BulkString("127.0.0.1".into());
        let server = Value::Array(vec![host(), Value::Int(port), Value::BulkString("id".into())]);
        let replica = Value::Array(vec![host(), Value::Int(9)]);
        Value::Array(vec![Value::Int(first), Value::Int(last), server, replica])
    }

    fn get(key: &str) -> Cmd {
        let mut command = redis::cmd("GET");
        command.arg(key);
        command
    }

    #[test]
    fn the_slots_of_a_server_have_one_number() {
        let answer = Value::Array(vec![range(0, 2, 1), range(3, 3, 2), range(4, 16_383, 1)]);
        let owners = owners(&answer).unwrap();
        assert_eq!(owners.len(), 16_384);
        assert_eq!([0, 2, 3, 4, 16_383].map(|slot| owners[slot]), [0, 0, 1, 0, 0].map(Some));
        assert!(super::owners(&Value::Array(vec![range(0, 16_384, 1)])).is_none());
        assert!(super::owners(&Value::Okay).is_none());
        assert!(super::owners(&Value::Array(vec![Value::Array(vec![Value::Int(1)])])).is_none());
    }

    proptest! {
        /// Braces often: they say what of the key counts.
        #[test]
        fn slots_are_those_of_the_driver(key in "([{}a-c]{0,12}|.{0,40})") {
            prop_assert_eq!(Slot::new(slot(key.as_bytes())), Some(Slot::for_key(key)));
        }
    }

    #[test]
    fn commands_are_divided_by_server_and_known_by_their_place() {
        // Slots: a 15495, b 3300, c 7365.
        let ranges = vec![range(0, 5000, 1), range(15_000, 16_383, 2)];
        let owners = owners(&Value::Array(ranges));
        let keys = ["a", "b", "c", "a", "{b}x", "c"];
        let commands = Commands::new(keys.len(), |index| get(keys[index]));
        let parts = divided(&commands, &owners.unwrap());
        let indexes: Vec<&[usize]> = parts.iter().map(|part| &part.indexes[..]).collect();
        let expected: [&[usize]; 4] = [&[0, 3], &[1, 4], &[2], &[5]];
        assert_eq!(indexes, expected);
        let keys: Vec<&[u8]> = parts[1].pipeline.cmd_iter().map(key).collect();
        let expected: [&[u8]; 2] = [b"b", b"{b}x"];
        assert_eq!(keys, expected);
        assert_eq!(parts[0].route, Route::with_key("a", SlotAddr::Master));
    }
}
