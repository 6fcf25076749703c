//! The part of librdkafka's statistics that is read here.
//!
//! Place in the data path: beside it. The control thread reads a report twice a second.
//!
//! A partition has some forty fields, of which nine are read. With a thousand partitions a report has 1.3 MB, so everything
//! else is skipped without being stored.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;

/// A report of the consumer. Fields have librdkafka's names (its `STATISTICS.md` has their meaning). All are always there,
/// except for the group of a client without one.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Statistics<'a> {
    /// Microseconds since the client was created.
    pub(super) age: i64,
    #[serde(default, borrow)]
    pub(super) brokers: HashMap<String, Broker<'a>>,
    #[serde(default, borrow)]
    pub(super) topics: HashMap<String, Topic<'a>>,
    #[serde(borrow)]
    pub(super) cgrp: Option<Group<'a>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Broker<'a> {
    pub(super) nodeid: i32,
    #[serde(borrow)]
    pub(super) state: Cow<'a, str>,
    /// Microseconds since it has answered; below zero if it never has.
    pub(super) rxidle: i64,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Topic<'a> {
    #[serde(borrow)]
    pub(super) partitions: HashMap<i32, Partition<'a>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Partition<'a> {
    /// From which it is fetched; below zero if there is none.
    pub(super) broker: i32,
    #[serde(borrow)]
    pub(super) fetch_state: Cow<'a, str>,
    pub(super) fetchq_cnt: u64,
    pub(super) fetchq_size: u64,
    pub(super) next_offset: i64,
    pub(super) app_offset: i64,
    pub(super) eof_offset: i64,
    pub(super) ls_offset: i64,
    pub(super) hi_offset: i64,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Group<'a> {
    #[serde(borrow)]
    pub(super) state: Cow<'a, str>,
    /// Milliseconds since `state` changed.
    pub(super) stateage: i64,
    #[serde(borrow)]
    pub(super) join_state: Cow<'a, str>,
    /// Milliseconds since the last rebalance.
    pub(super) rebalance_age: i64,
    pub(super) rebalance_cnt: i64,
    pub(super) assignment_size: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_is_skipped() {
        let partition = r#"{"partition":3,"broker":1,"leader":1,"desired":true,"fetchq_cnt":2,"fetchq_size":17,
            "fetch_state":"active","query_offset":-1001,"next_offset":9,"app_offset":7,"eof_offset":-1001,
            "lo_offset":-1,"hi_offset":9,"ls_offset":8,"consumer_lag":-1}"#;
        let report = format!(
            r#"{{"name":"rdkafka#consumer-1","age":1500000,"simple_cnt":0,
            "brokers":{{"host:9092/1":{{"name":"host:9092/1","nodeid":1,"state":"UP","rxidle":20,
            "rtt":{{"min":0,"max":0}},"toppars":{{"a-3":{{"topic":"a","partition":3}}}}}}}},
            "topics":{{"a":{{"topic":"a","batchsize":{{"min":0}},"partitions":{{"3":{partition},"-1":{partition}}}}}}},
            "cgrp":{{"state":"up","stateage":4,"join_state":"steady","rebalance_age":3,"rebalance_cnt":1,
            "rebalance_reason":"say \"why\"","assignment_size":1}},"tx":5}}"#
        );
        let report: Statistics<'_> = serde_json::from_str(&report).unwrap();
        let partition = &report.topics["a"].partitions[&3];
        assert_eq!((report.age, report.topics["a"].partitions.len()), (1_500_000, 2));
        assert_eq!(
            (partition.next_offset, partition.app_offset, partition.eof_offset),
            (9, 7, -1001)
        );
        assert_eq!((partition.ls_offset, partition.hi_offset, partition.fetchq_size), (8, 9, 17));
        assert!(matches!(partition.fetch_state, Cow::Borrowed("active")), "not copied");
        let broker = &report.brokers["host:9092/1"];
        assert_eq!((broker.nodeid, &*broker.state, broker.rxidle), (1, "UP", 20));
        let group = report.cgrp.unwrap();
        assert_eq!((&*group.join_state, group.assignment_size), ("steady", 1));
    }
}
