//! From what the user chose to the properties of the two Kafka clients: defaults, and what overrides them.

use super::check::Plan;
use super::fetch_ahead::FetchAhead;
use super::memory;
use super::names::{self, CONSUMER_ONLY, PRODUCER_ONLY, REFRESH, canonical};
use super::options::{GroupProtocol, Options};

/// librdkafka's default for [`REFRESH`].
const DEFAULT_REFRESH: u128 = 300_000;

type Properties = Vec<(String, String)>;

/// The properties of the consumer and of the producer, for a process that gets `numbers`
/// partition numbers of `topics` topics.
pub(super) fn clients(
    options: &Options,
    plan: &Plan,
    numbers: usize,
    topics: usize,
) -> (Properties, Properties) {
    let consumer =
        layered(consumer_defaults(options, plan, numbers, topics), options, PRODUCER_ONLY);
    let producer = layered(producer_defaults(options, plan), options, CONSUMER_ONLY);
    (consumer, producer)
}

fn consumer_defaults(options: &Options, plan: &Plan, numbers: usize, topics: usize) -> Properties {
    let ahead = FetchAhead::new(memory::buffered(options, numbers), numbers, topics);
    let mut properties = vec![
        ("bootstrap.servers".into(), plan.brokers.clone()),
        ("group.id".into(), plan.group_id.clone()),
        ("enable.auto.commit".into(), "false".into()),
        ("enable.auto.offset.store".into(), "false".into()),
        ("enable.partition.eof".into(), "false".into()),
        // Offsets are always assigned explicitly; what is out of range is told, not guessed.
        ("auto.offset.reset".into(), "error".into()),
        ("statistics.interval.ms".into(), "500".into()),
        ("queued.max.messages.kbytes".into(), (ahead.value_bytes >> 10).to_string()),
        ("queued.min.messages".into(), ahead.messages.to_string()),
        ("fetch.message.max.bytes".into(), ahead.fetch_bytes.to_string()),
        // The default of a second costs a factor of 5 to 9 in throughput: a queue that was full
        // once is not fetched into for so long.
        ("fetch.queue.backoff.ms".into(), "5".into()),
        ("fetch.wait.max.ms".into(), ahead.wait_ms.to_string()),
        ("reconnect.backoff.max.ms".into(), "2000".into()),
    ];
    match options.group_protocol {
        GroupProtocol::Classic => {
            properties.push(("partition.assignment.strategy".into(), "range".into()));
            if options.is_joined() {
                // How soon a member hears of added partitions, and of a topic that a broker did not know when it joined.
                // The default is 5 minutes, in which another member may have heard of another topic's.
                let hears = options.topic_check_interval.as_millis().clamp(1_000, DEFAULT_REFRESH);
                properties.push((REFRESH.into(), hears.to_string()));
                // The default is three times that.
                properties.push(("metadata.max.age.ms".into(), (3 * DEFAULT_REFRESH).to_string()));
            }
        }
        GroupProtocol::Consumer => {
            properties.push(("group.protocol".into(), "consumer".into()));
            properties.push(("group.remote.assignor".into(), "range".into()));
        }
    }
    properties
}

fn producer_defaults(options: &Options, plan: &Plan) -> Properties {
    // 0 is librdkafka's word for "without end".
    let timeout = options.delivery_timeout.map_or(0, |timeout| timeout.as_millis());
    vec![
        ("bootstrap.servers".into(), plan.brokers.clone()),
        ("acks".into(), "all".into()),
        ("enable.idempotence".into(), "true".into()),
        ("message.timeout.ms".into(), timeout.to_string()),
        ("partitioner".into(), options.partitioner.name().into()),
        // A batch is handed over whole, so there is little to wait for.
        ("linger.ms".into(), "1".into()),
        // Batches in flight are bounded per partition, in number and bytes.
        ("queue.buffering.max.messages".into(), "2000000".into()),
        ("reconnect.backoff.max.ms".into(), "2000".into()),
    ]
}

/// The library's defaults, overridden and completed by what the user set, without what only the other
/// client knows.
fn layered(defaults: Properties, options: &Options, not: &[&str]) -> Properties {
    let mut all = defaults;
    let own = options.properties.iter().filter(|(name, _)| !names::is_in(not, name));
    for (name, value) in own {
        match all.iter_mut().find(|(set, _)| names::is_same(set, name)) {
            Some(set) => set.1.clone_from(value),
            None => all.push((canonical(name).to_owned(), value.clone())),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::Builder;
    use super::super::check::check;
    use super::*;
    use crate::TopicProcessor;

    fn builder() -> Builder {
        TopicProcessor::builder("test", ["a"]).brokers("localhost:9092")
    }

    fn clients_of(builder: &Builder) -> (Properties, Properties) {
        clients(&builder.options, &check(&builder.options).unwrap(), 4, 1)
    }

    #[test]
    fn a_property_reaches_the_clients_that_have_it() {
        let builder = builder()
            .kafka("linger.ms", "20")
            .kafka("session.timeout.ms", "9000")
            .kafka("client.id", "me");
        let (consumer, producer) = clients_of(&builder);
        let get = |properties: &Properties, name: &str| {
            let found = properties.iter().filter(|(property, _)| property == name);
            found.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        assert_eq!(get(&producer, "linger.ms"), ["20"], "overrides the default");
        assert!(get(&consumer, "linger.ms").is_empty());
        assert_eq!(get(&consumer, "session.timeout.ms"), ["9000"]);
        assert!(get(&producer, "session.timeout.ms").is_empty());
        assert_eq!(get(&consumer, "client.id"), ["me"]);
        assert_eq!(get(&producer, "client.id"), ["me"]);
    }

    #[test]
    fn a_property_has_one_value_under_all_its_names() {
        let builder = builder()
            .kafka("queue.buffering.max.ms", "20")
            .kafka("max.partition.fetch.bytes", "1000")
            .kafka("compression.codec", "gzip")
            .kafka("topic.compression.type", "lz4");
        let (consumer, producer) = clients_of(&builder);
        let get = |properties: &Properties, name: &str| {
            let found = properties.iter().filter(|(property, _)| names::is_same(property, name));
            found.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        assert_eq!(get(&producer, "linger.ms"), ["20"]);
        assert_eq!(get(&consumer, "linger.ms"), [""; 0]);
        assert_eq!(get(&consumer, "fetch.message.max.bytes"), ["1000"]);
        assert_eq!(get(&producer, "max.partition.fetch.bytes"), [""; 0]);
        assert_eq!(get(&producer, "compression.type"), ["lz4"], "the last one counts");
    }
}
