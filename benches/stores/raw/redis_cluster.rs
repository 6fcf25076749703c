//! A pipeline to each server of the cluster, with the commands for the keys that it has.
//!
//! The driver's cluster connection sends a pipeline to one server only, so this has a connection to each, and a
//! map of the slots. It would have to follow the cluster where slots move; this one's don't.

use futures_util::future::try_join_all;
use kasper::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};

use super::Values;
use crate::common::BoxError;
use crate::common::redis::connect;
use crate::place::Place;

const SLOTS: u16 = 16_384;

pub(crate) struct RedisCluster {
    connections: Vec<MultiplexedConnection>,
    /// By slot, which connection.
    owners: Vec<usize>,
}

/// First and last slot; the server that has them, with its replicas behind it.
type Range = (u16, u16, Vec<Value>);

impl RedisCluster {
    pub(crate) async fn connect(place: &Place) -> Result<Self, BoxError> {
        let mut any = connect(place.first_address()).await?;
        let ranges: Vec<Value> = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut any).await?;
        let mut connections = Vec::new();
        let mut addresses: Vec<String> = Vec::new();
        let mut owners = vec![0; usize::from(SLOTS)];
        for range in ranges {
            let (first, last, address) = parse(range).ok_or("an odd answer to CLUSTER SLOTS")?;
            let known = addresses.iter().position(|other| *other == address);
            let owner = known.unwrap_or(addresses.len());
            if known.is_none() {
                connections.push(connect(&address).await?);
                addresses.push(address);
            }
            owners[usize::from(first)..=usize::from(last)].fill(owner);
        }
        Ok(Self { connections, owners })
    }

    pub(crate) async fn get_many(&self, keys: &[&str]) -> Result<Values, BoxError> {
        let mut places: Vec<Vec<usize>> = vec![Vec::new(); self.connections.len()];
        for (index, key) in keys.iter().enumerate() {
            places[self.owner(key)].push(index);
        }
        let parts = self.connections.iter().zip(&places).filter(|(_, places)| !places.is_empty());
        let parts = parts.map(async |(connection, places)| {
            let mut pipeline = Pipeline::with_capacity(places.len());
            for index in places {
                pipeline.get(keys[*index]);
            }
            let mut connection = connection.clone();
            Ok::<_, BoxError>((places, pipeline.query_async::<Values>(&mut connection).await?))
        });
        let mut values = vec![None; keys.len()];
        for (places, part) in try_join_all(parts).await? {
            for (index, value) in places.iter().zip(part) {
                values[*index] = value;
            }
        }
        Ok(values)
    }

    pub(crate) async fn write_many(&self, changes: &[(&str, Bytes)]) -> Result<(), BoxError> {
        let mut pipelines: Vec<Pipeline> = vec![Pipeline::new(); self.connections.len()];
        for (key, value) in changes {
            pipelines[self.owner(key)].set(*key, &value[..]).ignore();
        }
        let parts = self.connections.iter().zip(&pipelines);
        let parts = parts.filter(|(_, pipeline)| !pipeline.is_empty());
        let parts = parts
            .map(async |(connection, pipeline)| pipeline.exec_async(&mut connection.clone()).await);
        try_join_all(parts).await?;
        Ok(())
    }

    fn owner(&self, key: &str) -> usize {
        self.owners[usize::from(crc16(key.as_bytes()) % SLOTS)]
    }
}

fn parse(range: Value) -> Option<(u16, u16, String)> {
    let (first, last, servers): Range = match range {
        Value::Array(parts) => {
            let mut parts = parts.into_iter();
            let (Value::Int(first), Value::Int(last)) = (parts.next()?, parts.next()?) else {
                return None;
            };
            (u16::try_from(first).ok()?, u16::try_from(last).ok()?, parts.collect())
        }
        _ => return None,
    };
    let Value::Array(server) = servers.into_iter().next()? else { return None };
    let mut parts = server.into_iter();
    let (Value::BulkString(host), Value::Int(port)) = (parts.next()?, parts.next()?) else {
        return None;
    };
    Some((first, last, format!("{}:{port}", String::from_utf8(host.to_vec()).ok()?)))
}

/// The cluster's hash, CRC-16/XMODEM; the benchmark's keys have no `{`.
fn crc16(bytes: &[u8]) -> u16 {
    const TABLE: [u16; 256] = {
        let mut table = [0; 256];
        let (mut index, mut high): (usize, u16) = (0, 0);
        while index < 256 {
            let mut crc = high;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
                bit += 1;
            }
            table[index] = crc;
            index += 1;
            high = high.wrapping_add(0x100);
        }
        table
    };
    bytes
        .iter()
        .fold(0, |crc: u16, byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) ^ u16::from(*byte))])
}
