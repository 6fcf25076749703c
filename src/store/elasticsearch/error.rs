//! Which of the servers' and the driver's errors becomes what: one table.

use crate::error::{Error, ErrorKind};

/// What an error is, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) kind: ErrorKind,
    /// The same call may succeed later.
    pub(super) retryable: bool,
    /// The server is only busy: the store itself tries again, within the call's deadline.
    pub(super) again: bool,
}

struct Row {
    /// 0: any, or none, as in the answers of `_mget`.
    status: u16,
    /// The error's `type`; empty: any.
    type_name: &'static str,
    /// What its `reason` has in it; empty: anything.
    reason: &'static str,
    verdict: Verdict,
    /// What to do, where the server does not tell; may be empty.
    advice: &'static str,
}

impl Row {
    const fn advice(mut self, advice: &'static str) -> Self {
        self.advice = advice;
        self
    }
}

const fn row(
    status: u16,
    type_name: &'static str,
    reason: &'static str,
    kind: ErrorKind,
    retry: Retry,
) -> Row {
    let (retryable, again) = match retry {
        Retry::Never => (false, false),
        Retry::Caller => (true, false),
        Retry::Store => (true, true),
    };
    Row { status, type_name, reason, verdict: Verdict { kind, retryable, again }, advice: "" }
}

/// Who tries again.
#[derive(Clone, Copy)]
enum Retry {
    Never,
    Caller,
    Store,
}

const ONE_INDEX: &str =
    "a store reads by key, which needs one index, or an alias of one: give it the index";

pub(super) const OTHER_TYPE: &str = "the index's mapping, which may come from a value that was written before, does not fit the \
                          value; an index made with `create_index_if_missing` takes any JSON object";

/// The first row that fits counts.
const TABLE: &[Row] = {
    use ErrorKind::{
        Backend, Config, InvalidInput, NoSpace, NotFound, Timeout, Unauthorized, Unavailable,
    };
    use Retry::{Caller, Never, Store};
    &[
        // The disk is full; the block goes by itself when there is room.
        row(0, "cluster_block_exception", "/12/", NoSpace, Caller),
        row(0, "", "No space left on device", NoSpace, Caller),
        // OpenSearch takes no new indexes when the disks of all its servers are nearly full, until they are not.
        row(0, "index_create_block_exception", "", NoSpace, Caller),
        row(0, "", "maximum shards open", NoSpace, Never),
        // `index.blocks.write`, `.read_only` and the like: somebody has forbidden it.
        row(403, "cluster_block_exception", "", Unauthorized, Never),
        row(0, "cluster_block_exception", "FORBIDDEN", Unauthorized, Never),
        row(401, "", "", Unauthorized, Never),
        row(403, "", "", Unauthorized, Never),
        row(0, "security_exception", "", Unauthorized, Never),
        row(0, "index_not_found_exception", "", NotFound, Never),
        row(0, "type_missing_exception", "", NotFound, Never),
        row(408, "", "", Timeout, Caller),
        row(413, "", "", InvalidInput, Never),
        row(429, "", "", Unavailable, Store),
        row(502, "", "", Unavailable, Caller),
        row(503, "", "", Unavailable, Store),
        row(504, "", "", Timeout, Caller),
        // Answers of `_mget` have no status: these are 429 and 503 elsewhere.
        row(0, "es_rejected_execution_exception", "", Unavailable, Store),
        row(0, "rejected_execution_exception", "", Unavailable, Store),
        row(0, "circuit_breaking_exception", "", Unavailable, Store),
        row(0, "no_shard_available_action_exception", "", Unavailable, Store),
        row(0, "unavailable_shards_exception", "", Unavailable, Store),
        row(0, "shard_not_found_exception", "", Unavailable, Store),
        row(0, "illegal_index_shard_state_exception", "", Unavailable, Store),
        row(0, "node_not_connected_exception", "", Unavailable, Store),
        row(0, "node_disconnected_exception", "", Unavailable, Store),
        // A node that is shut down ends its requests so, with the status 500.
        row(0, "node_closed_exception", "", Unavailable, Store),
        row(0, "connect_transport_exception", "", Unavailable, Store),
        row(0, "receive_timeout_transport_exception", "", Timeout, Caller),
        row(0, "cluster_block_exception", "SERVICE_UNAVAILABLE", Unavailable, Store),
        row(0, "index_closed_exception", "", Backend, Never)
            .advice("open the index, with `POST /INDEX/_open`"),
        // What the index is, and not what is written.
        row(0, "illegal_argument_exception", "more than one ind", Config, Never).advice(ONE_INDEX),
        row(0, "illegal_argument_exception", "no write index is defined", Config, Never)
            .advice(ONE_INDEX),
        row(0, "illegal_argument_exception", "allowed in data streams", Config, Never)
            .advice("the documents of a data stream are not changed: give the store an index"),
        row(0, "", "no ingest nodes", Config, Never).advice(
            "the index has a pipeline (`index.default_pipeline`) that no server of the cluster can run",
        ),
        row(0, "illegal_argument_exception", "Limit of total fields", InvalidInput, Never).advice(
            "the value has names of fields for which the index has no room: raise its \
             `index.mapping.total_fields.limit`, or make the index with `create_index_if_missing`, which indexes no fields",
        ),
        row(400, "strict_dynamic_mapping_exception", "", InvalidInput, Never)
            .advice("the index's mapping (`dynamic: strict`) has to have this field"),
        row(400, "mapper_parsing_exception", "", InvalidInput, Never).advice(OTHER_TYPE),
        // Since Elasticsearch 8.
        row(400, "document_parsing_exception", "", InvalidInput, Never).advice(OTHER_TYPE),
        row(400, "", "", InvalidInput, Never),
        row(409, "", "", Backend, Caller),
        row(0, "", "", Backend, Never),
    ]
};

/// What the server's error means, and what to do. A status of 0 is none.
pub(super) fn meaning(status: u16, type_name: &str, reason: &str) -> (Verdict, &'static str) {
    let fits = |row: &&Row| {
        (row.status == 0 || row.status == status)
            && (row.type_name.is_empty() || row.type_name == type_name)
            && reason.contains(row.reason)
    };
    let other = Verdict { kind: ErrorKind::Backend, retryable: false, again: false };
    TABLE.iter().find(fits).map_or((other, ""), |row| (row.verdict, row.advice))
}

pub(super) fn error_of(verdict: Verdict, message: String) -> Error {
    let error = Error::new(verdict.kind, message);
    if verdict.retryable { error.retryable() } else { error }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fault::Fault;
    use super::*;

    const BLOCKED: &str = "index [k] blocked by: ";

    #[test]
    fn each_error_is_what_the_table_says() {
        use ErrorKind::*;
        let flood =
            format!("{BLOCKED}[TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark];");
        let old_flood = format!("{BLOCKED}[FORBIDDEN/12/index read-only / allow delete (api)];");
        let no_new = "blocked by: [FORBIDDEN/10/cluster create-index blocked (api)];".to_owned();
        let write = format!("{BLOCKED}[FORBIDDEN/8/index write (api)];");
        let state = format!("{BLOCKED}[SERVICE_UNAVAILABLE/1/state not recovered / initialized];");
        // Status, type, reason; kind, may the caller try again, does the store.
        let rows: &[(u16, &str, &str, ErrorKind, bool, bool)] = &[
            (429, "cluster_block_exception", &flood, NoSpace, true, false),
            (403, "cluster_block_exception", &old_flood, NoSpace, true, false),
            (403, "index_create_block_exception", &no_new, NoSpace, true, false),
            (500, "i_o_exception", "No space left on device", NoSpace, true, false),
            (400, "validation_exception", "1000/1000 maximum shards open", NoSpace, false, false),
            (403, "cluster_block_exception", &write, Unauthorized, false, false),
            (0, "cluster_block_exception", &write, Unauthorized, false, false),
            (503, "cluster_block_exception", &state, Unavailable, true, true),
            (0, "cluster_block_exception", &state, Unavailable, true, true),
            (401, "security_exception", "", Unauthorized, false, false),
            (401, "", "Unauthorized", Unauthorized, false, false),
            (403, "security_exception", "action [x] is unauthorized", Unauthorized, false, false),
            (0, "security_exception", "", Unauthorized, false, false),
            (404, "index_not_found_exception", "no such index [k]", NotFound, false, false),
            (404, "type_missing_exception", "", NotFound, false, false),
            (404, "", "", Backend, false, false),
            (408, "", "", Timeout, true, false),
            (413, "", "", InvalidInput, false, false),
            (429, "es_rejected_execution_exception", "", Unavailable, true, true),
            (429, "circuit_breaking_exception", "", Unavailable, true, true),
            (502, "", "Bad Gateway", Unavailable, true, false),
            (503, "unavailable_shards_exception", "", Unavailable, true, true),
            (503, "", "", Unavailable, true, true),
            (504, "", "", Timeout, true, false),
            (0, "es_rejected_execution_exception", "", Unavailable, true, true),
            (0, "rejected_execution_exception", "", Unavailable, true, true),
            (0, "circuit_breaking_exception", "", Unavailable, true, true),
            (0, "no_shard_available_action_exception", "", Unavailable, true, true),
            (0, "unavailable_shards_exception", "", Unavailable, true, true),
            (0, "shard_not_found_exception", "", Unavailable, true, true),
            (0, "illegal_index_shard_state_exception", "", Unavailable, true, true),
            (0, "node_not_connected_exception", "", Unavailable, true, true),
            (0, "node_disconnected_exception", "", Unavailable, true, true),
            (500, "node_closed_exception", "node closed", Unavailable, true, true),
            (500, "connect_transport_exception", "", Unavailable, true, true),
            (500, "receive_timeout_transport_exception", "", Timeout, true, false),
            (400, "index_closed_exception", "closed", Backend, false, false),
            (
                0,
                "illegal_argument_exception",
                "alias [a] has more than one index",
                Config,
                false,
                false,
            ),
            (
                400,
                "illegal_argument_exception",
                "alias [a] has more than one indices",
                Config,
                false,
                false,
            ),
            (
                400,
                "illegal_argument_exception",
                "no write index is defined for",
                Config,
                false,
                false,
            ),
            (
                400,
                "illegal_argument_exception",
                "are allowed in data streams",
                Config,
                false,
                false,
            ),
            (500, "illegal_state_exception", "There are no ingest nodes", Config, false, false),
            (
                400,
                "illegal_argument_exception",
                "Limit of total fields [1]",
                InvalidInput,
                false,
                false,
            ),
            (400, "document_parsing_exception", "failed to parse", InvalidInput, false, false),
            (400, "mapper_parsing_exception", "failed to parse", InvalidInput, false, false),
            (400, "strict_dynamic_mapping_exception", "", InvalidInput, false, false),
            (409, "version_conflict_engine_exception", "", Backend, true, false),
            (500, "null_pointer_exception", "", Backend, false, false),
            (0, "illegal_argument_exception", "", Backend, false, false),
        ];
        for &(status, type_name, reason, kind, retryable, again) in rows {
            let error = json!({"type": type_name, "reason": reason});
            let fault = Fault::of_server(status, &error);
            let expected = Verdict { kind, retryable, again };
            assert_eq!(fault.verdict, expected, "{status} {type_name} {reason}");
            assert_eq!((fault.error.kind(), fault.error.is_retryable()), (kind, retryable));
        }
    }

    #[test]
    fn no_row_is_in_vain() {
        for (index, row) in TABLE.iter().enumerate() {
            let type_name = if row.type_name.is_empty() { "x" } else { row.type_name };
            let first = TABLE.iter().position(|other| {
                (other.status == 0 || other.status == row.status)
                    && (other.type_name.is_empty() || other.type_name == type_name)
                    && row.reason.contains(other.reason)
            });
            assert_eq!(first, Some(index), "row {index}: {} {}", row.status, row.type_name);
        }
    }
}
