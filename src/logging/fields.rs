//! Every field of the library's spans and events.

/// A field of a span or an event.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Field {
    /// Its name. A name has the same meaning in all spans and events.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
}

/// The value of a field that is a list; a JSON log has it as one. The items have no spaces.
pub(crate) fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(" ")
}

/// The fields that are [lists](list), where they are text.
#[cfg(feature = "logging")]
pub(super) const LISTS: &[&str] = &["partitions", "topics"];

const fn field(name: &'static str, help: &'static str) -> Field {
    Field { name, help }
}

/// All fields, sorted by name.
///
/// ```
/// use kasper::logging::FIELDS;
///
/// let lag = FIELDS.iter().find(|field| field.name == "lag").unwrap();
/// assert_eq!(lag.help, "Messages between the finished ones and the end of the log.");
/// ```
pub static FIELDS: &[Field] = &[
    field("address", "Where the admin server listens."),
    field("assignor", "The configured `partition.assignment.strategy`."),
    field(
        "attempt",
        "The number of calls so far, of a store or of the processor, including the first.",
    ),
    field("bytes", "The size of a request or of a message."),
    field("change", "How an input topic changed."),
    field("client", "The librdkafka client: `consumer` or `producer`."),
    field("code", "The error code, by Kafka's or librdkafka's name."),
    field("command", "The command that the admin server received."),
    field("committed", "Whether the group has a committed offset for the partition."),
    field("earliest", "The first offset of a partition's log."),
    field("end", "The end of a partition's log: the offset of the next message to be produced."),
    field("epoch", "Counts the assignments of this process."),
    field("error", "What went wrong, with its causes."),
    field("facility", "The part of librdkafka that logged the line."),
    field("going_on_at", "The offset at which consumption continues."),
    field("in_flight", "Batches in `process` or waiting for acknowledgements."),
    field("keys", "The number of keys that are held in a quarantine."),
    field("lag", "Messages between the finished ones and the end of the log."),
    field("late", "Partitions that start later than the others."),
    field(
        "latency_ms",
        "The time from a message's arrival to its committed offset, in milliseconds.",
    ),
    field("max_request_bytes", "The limit for a request to a store, in bytes."),
    field(
        "messages",
        "The number of messages: of a batch or, when the processor closes, of all batches.",
    ),
    field("missed_s", "Seconds for which `target_latency` was not met."),
    field("offset", "An offset in a partition's log."),
    field("offsets", "The offsets of a batch, first and last of each topic."),
    field("operation", "The store's operation."),
    field(
        "partition",
        "A partition number: of `topic` or, if that is missing, of all input topics.",
    ),
    field(
        "partitions",
        "The partitions that were assigned or revoked, or the number of partitions of a topic.",
    ),
    field("position", "The next offset to process."),
    field("processor", "The name of the topic processor."),
    field("reason", "The error of the token provider."),
    field("refused", "The size of a request that a store's server refused."),
    field("rejected", "A message that was rejected: where it is, and why; of several, the first."),
    field("signal", "The signal that ends the process."),
    field("start", "The offset at which a partition begins."),
    field("still_s", "Seconds without progress."),
    field("target_ms", "`target_latency`, in milliseconds."),
    field("topic", "The topic."),
    field("topics", "The input topics, or those of them that are missing."),
    field("wait", "The time until the next attempt."),
    field("waited", "The time waited so far."),
    field("was", "The number of partitions that a topic had before."),
];
