//! Metrics as Prometheus gets them: scraped over HTTP, and read by a parser of its text format.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kasper::metrics::{CATALOGUE, Counter, Kind, Metrics, Prometheus, prometheus, prometheus_from};
use kasper::store::{Cached, MapStore, Metered, Retry, Store};
use kasper::testkit::{EmbeddedBroker, Feeder};
use kasper::{
    Backoff, Batch, BoxError, Builder, Context, ErrorKind, OnError, OutgoingMessage, Processor,
    StartContext, TopicProcessor,
};
use prometheus_parse::{Sample, Scrape, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// Sends each message to `audit` at once, and to `out` when the batch is done; fails at the value `bad`.
struct Copy {
    store: Metered<Cached<Retry<MapStore>>>,
    seen: Counter,
}

impl Processor for Copy {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        for message in batch.iter() {
            let value = message.value().unwrap_or_default();
            if value == b"bad" {
                // An empty key is an error of the store.
                self.store.get("").await?;
            }
            context.send(OutgoingMessage::new("audit").value(value));
        }
        context.flush().await?;
        self.store.put("last", "1").await?;
        self.store.get_many(&["last", "none"]).await?;
        batch.iter().for_each(|message| context.forward("out", &message));
        self.seen.increment(batch.len() as u64);
        Ok(())
    }
}

async fn run_over(
    broker: &EmbeddedBroker,
    builder: Builder,
    value: &'static [u8],
    messages: usize,
) -> kasper::Result<kasper::Report> {
    let factory = |start: &StartContext| {
        let metrics = start.metrics();
        let retry = Retry::new(MapStore::new()).metered("counts", metrics);
        let cached = Cached::new(retry, 1 << 20).metered("counts", metrics);
        Copy {
            store: Metered::new(cached, "counts", metrics),
            seen: metrics.counter("copied_total", "Messages copied.", &[("to", "out")]),
        }
    };
    let processor = builder.brokers(broker.brokers()).partitions(0..2).build(factory).await?;
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    let mut feeder = Feeder::new(&broker.brokers(), "in", 2, handle.clone())?;
    let feed = async {
        for _ in 0..messages {
            feeder.send(value).await?;
        }
        feeder.finish().await
    };
    let fed = timeout(Duration::from_secs(30), feed).await.unwrap();
    handle.close();
    // Where the processor fails, so does feeding it, and that says less.
    let report = running.await.unwrap()?;
    fed?;
    Ok(report)
}

fn broker() -> EmbeddedBroker {
    let broker = EmbeddedBroker::start().unwrap();
    for topic in ["in", "out", "audit"] {
        broker.create_topic(topic, 2).unwrap();
    }
    broker
}

/// Serves the text as a server of the user's would, and gets it as Prometheus does.
async fn scrape(prometheus: &Prometheus) -> Scrape {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let prometheus = prometheus.clone();
    let serving = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(connection.read(&mut request).await.unwrap() > 0);
        let text = prometheus.render();
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close";
        let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        connection.write_all(answer.as_bytes()).await.unwrap();
    });
    let text = reqwest::get(url).await.unwrap().error_for_status().unwrap().text().await.unwrap();
    serving.await.unwrap();
    Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap()
}

/// The sum of the samples of this name whose labels have these values.
fn sum(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted = |sample: &&Sample| {
        sample.metric == name
            && labels.iter().all(|(l, value)| sample.labels.get(l) == Some(*value))
    };
    let values = scrape.samples.iter().filter(wanted).map(|sample| match &sample.value {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => *value,
        other => panic!("{name} is no number: {other:?}"),
    });
    let values: Vec<f64> = values.collect();
    assert!(!values.is_empty(), "no {name} with {labels:?}");
    values.iter().sum()
}

/// Everything in the catalogue is emitted, as what the catalogue says it is, and nothing else is.
fn check_catalogue(scrape: &Scrape, own: &[&str]) {
    let mut emitted: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in &scrape.samples {
        let name = sample.metric.as_str();
        let base = name.strip_suffix("_sum").or(name.strip_suffix("_count")).unwrap_or(name);
        let known = |name: &str| CATALOGUE.iter().any(|metric| metric.name == name);
        let name = if known(name) { name } else { base };
        emitted.entry(name).or_default().push(sample);
    }
    let in_catalogue: BTreeSet<&str> = CATALOGUE.iter().map(|metric| metric.name).collect();
    let names: BTreeSet<&str> = emitted.keys().copied().collect();
    assert_eq!(names, in_catalogue.into_iter().chain(own.iter().copied()).collect());
    for metric in CATALOGUE {
        assert_eq!(scrape.docs.get(metric.name).map(String::as_str), Some(metric.help));
        for sample in &emitted[metric.name] {
            let mut labels: BTreeSet<&str> = metric.labels.iter().copied().collect();
            labels.insert("processor");
            let given: BTreeSet<&str> = sample.labels.keys().map(String::as_str).collect();
            assert_eq!(given, labels, "{}", metric.name);
            if sample.metric == metric.name {
                let kind = match &sample.value {
                    Value::Counter(_) => Kind::Counter,
                    Value::Gauge(_) => Kind::Gauge,
                    Value::Histogram(buckets) => {
                        assert_eq!(buckets.len(), metric.buckets.len() + 1, "{}", metric.name);
                        Kind::Histogram
                    }
                    other => panic!("{} is {other:?}", metric.name),
                };
                assert_eq!(kind, metric.kind, "{}", metric.name);
            }
        }
    }
}

#[tokio::test]
async fn a_scrape_has_everything_that_is_in_the_catalogue() {
    let (broker, prometheus) = (broker(), prometheus().unwrap());
    let builder = TopicProcessor::builder("copy", ["in"]).metrics(prometheus.clone());
    let report = run_over(&broker, builder, b"0123456789", 100).await.unwrap();
    assert_eq!(report.messages, 100);
    // Another processor of the process, to the same recorder; it fails.
    let broker = self::broker();
    let builder = TopicProcessor::builder("fail", ["in"]).metrics(prometheus.clone());
    let error = run_over(&broker, builder, b"bad", 10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Process);

    // A third one tries again, and then rejects what fails.
    let broker = self::broker();
    let backoff = Backoff::new().first(Duration::from_millis(1)).max_retries(1);
    let builder = TopicProcessor::builder("reject", ["in"]).metrics(prometheus.clone());
    let builder = builder.on_error(OnError::retry(backoff).then_dead_letter("out"));
    let rejecting = run_over(&broker, builder, b"bad", 10).await.unwrap();
    assert_eq!(rejecting.rejected, 10);

    let scrape = scrape(&prometheus).await;
    let rejected = [("processor", "reject"), ("outcome", "dead_letter")];
    assert_eq!(sum(&scrape, "kasper_rejected_messages_total", &rejected), 10.0);
    check_catalogue(&scrape, &["copied_total"]);
    let copy = |name: &str| sum(&scrape, name, &[("processor", "copy")]);
    assert_eq!(copy("kasper_incoming_messages_total"), 100.0);
    assert_eq!(copy("kasper_incoming_bytes_total"), 1000.0);
    assert_eq!(copy("kasper_batches_total"), report.batches as f64);
    assert_eq!(copy("copied_total"), 100.0);
    for topic in ["audit", "out"] {
        let labels = [("processor", "copy"), ("topic", topic)];
        assert_eq!(sum(&scrape, "kasper_outgoing_messages_total", &labels), 100.0);
        assert_eq!(sum(&scrape, "kasper_outgoing_bytes_total", &labels), 1000.0);
    }
    let gauges = CATALOGUE.iter().filter(|metric| metric.kind == Kind::Gauge);
    gauges.for_each(|metric| assert_eq!(sum(&scrape, metric.name, &[]), 0.0, "{}", metric.name));
    let failed = [("processor", "fail"), ("kind", "process failed")];
    assert_eq!(sum(&scrape, "kasper_failures_total", &failed), 1.0);
    let refused = [("processor", "fail"), ("kind", "invalid input"), ("operation", "get_many")];
    assert!(sum(&scrape, "kasper_store_errors_total", &refused) >= 1.0);
    let whole = scrape.samples.iter().find_map(|sample| match &sample.value {
        Value::Histogram(buckets) if sample.metric == "kasper_batch_messages" => {
            (sample.labels.get("processor") == Some("copy")).then(|| buckets.last().unwrap().count)
        }
        _ => None,
    });
    assert_eq!(whole, Some(report.batches as f64));
}

#[tokio::test]
async fn recorders_of_two_processors_are_apart() {
    let (broker, first, second) = (broker(), prometheus().unwrap(), prometheus().unwrap());
    for (name, prometheus, messages) in [("first", &first, 30), ("second", &second, 50)] {
        let broker = if name == "first" { &broker } else { &self::broker() };
        let builder = TopicProcessor::builder(name, ["in"]).metrics(prometheus.clone());
        run_over(broker, builder, b"1", messages).await.unwrap();
    }
    for (name, prometheus, messages) in [("first", &first, 30.0), ("second", &second, 50.0)] {
        let scrape = scrape(prometheus).await;
        assert_eq!(sum(&scrape, "kasper_incoming_messages_total", &[]), messages);
        let of = |sample: &Sample| sample.labels.get("processor") == Some(name);
        assert!(scrape.samples.iter().all(of));
    }
}

#[tokio::test]
async fn a_builder_of_the_exporters_adds_its_labels() {
    let builder = kasper::metrics::PrometheusBuilder::new().add_global_label("zone", "north");
    let prometheus = prometheus_from(builder).unwrap();
    Metrics::new("p", prometheus.clone()).histogram("mine", "My own.", &[]).record(3.0);
    let scrape = scrape(&prometheus).await;
    assert!(scrape.samples.iter().all(|sample| sample.labels.get("zone") == Some("north")));
    assert!(scrape.samples.iter().any(|sample| matches!(sample.value, Value::Summary(_))));
    assert_eq!(prometheus.handle().render(), prometheus.render());
}
