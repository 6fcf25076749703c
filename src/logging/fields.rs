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
    field("attempt", "Calls of a store made so far, the first included."),
    field("bytes", "The size of a request or of a message."),
    field("change", "What is other than it should be with an input topic."),
    field("client", "Which client of librdkafka it was: `consumer` or `producer`."),
    field("code", "Kafka's or librdkafka's name of an error."),
    field("command", "What the admin server was told to do."),
    field("committed", "Whether the group has a committed offset for the partition."),
    field("earliest", "The first offset of a partition's log."),
    field("end", "The end of a partition's log: the offset that comes next."),
    field("epoch", "Counts the assignments of this process."),
    field("error", "What went wrong, with its causes."),
    field("facility", "The part of librdkafka that a line is from."),
    field("going_on_at", "The offset that was chosen to go on at."),
    field("in_flight", "Batches in `process` or waiting for acknowledgements."),
    field("lag", "Messages between the finished ones and the end of the log."),
    field("late", "Partitions that start later than the others."),
    field("max_request_bytes", "The most bytes of a request to a store."),
    field("messages", "How many: of a batch or, when it closes, all that were processed."),
    field("offset", "An offset in a partition's log."),
    field("offsets", "The offsets of a batch, first and last of each topic."),
    field("operation", "The store's operation."),
    field("partition", "A partition number; where `topic` is missing, of all input topics."),
    field("partitions", "The partitions that came or went, or how many a topic has."),
    field("position", "The next offset to process."),
    field("processor", "The name of the topic processor."),
    field("reason", "What the token provider said."),
    field("refused", "The size of a request that a store's server refused."),
    field("signal", "The signal that ends the process."),
    field("start", "The next offset to be read."),
    field("still_s", "Seconds without progress."),
    field("topic", "A topic."),
    field("topics", "The input topics, or those of them that are missing."),
    field("wait", "How long it waits before the next attempt."),
    field("waited", "How long it has waited so far."),
    field("was", "How many partitions a topic had before."),
];
