//! What a program sees in its log. There is one subscriber in a process, so each test runs the job in a process of
//! its own: this program, called once more.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests and what they print"
)]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kasper::logging::Logging;
use kasper::store::{Retry, Store};
use kasper::testkit::{EmbeddedBroker, Feeder};
use kasper::{Batch, BoxError, Bytes, Context, Error, ErrorKind, Processor, TopicProcessor};
use serde_json::Value;

/// The kind of output; with it, the program is the job.
const OUTPUT: &str = "KASPER_TEST_LOG_OUTPUT";

/// Logs the first message of each batch.
#[derive(Clone, Default)]
struct Tell(Arc<AtomicU64>);

impl Processor for Tell {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        tracing::info!(target: "job", first = batch.iter().next().unwrap().offset().get(), "batch");
        Ok(())
    }
}

/// Fails at the first message, as a store would that cannot be reached.
struct Fail;

impl Processor for Fail {
    async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = Error::new(ErrorKind::Unavailable, "the ledger did not answer");
        Err(error.with_source(refused).into())
    }
}

/// A store whose server hangs, and that has a time-out of its own.
struct TimesOut(Duration);

impl Store for TimesOut {
    async fn get_many(&self, _: &[&str]) -> kasper::Result<Vec<Option<Bytes>>> {
        tokio::time::sleep(self.0).await;
        Err(Error::new(ErrorKind::Timeout, "no answer").retryable())
    }

    async fn write_many(&self, _: &[(&str, Option<Bytes>)]) -> kasper::Result<()> {
        Ok(())
    }
}

async fn failing_job() -> kasper::Result<()> {
    let broker = EmbeddedBroker::start()?;
    broker.create_topic("in", 1)?;
    let processor =
        TopicProcessor::builder("told", ["in"]).brokers(broker.brokers()).build(|_| Fail).await?;
    let mut feeder = Feeder::new(&broker.brokers(), "in", 1, processor.handle())?;
    feeder.send(b"value").await?;
    tokio::time::timeout(Duration::from_secs(60), processor.run()).await.unwrap().map(drop)
}

/// Small batches of 2,000 messages. librdkafka's own log is on where it is asked for.
async fn job(of_librdkafka: Option<&str>) -> kasper::Result<()> {
    let broker = EmbeddedBroker::start()?;
    broker.create_topic("in", 2)?;
    let tell = Tell::default();
    let batches = Arc::clone(&tell.0);
    let builder = TopicProcessor::builder("told", ["in"]).brokers(broker.brokers());
    let builder = builder.partitions(0..2).max_batch_messages(20);
    let builder = of_librdkafka.into_iter().fold(builder, |builder, of| builder.kafka("debug", of));
    let processor = builder.build(move |_| tell.clone()).await?;
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    let mut feeder = Feeder::new(&broker.brokers(), "in", 2, handle.clone())?;
    for _ in 0..2000 {
        feeder.send(b"value").await?;
    }
    tokio::time::timeout(Duration::from_secs(60), feeder.finish()).await.unwrap()?;
    handle.close();
    running.await.unwrap()?;
    assert!(batches.load(Ordering::SeqCst) >= 100);
    Ok(())
}

/// A test of its own too: that the job ends well with logging.
#[test]
fn the_job_runs_and_logs() {
    let output = std::env::var(OUTPUT).unwrap_or_else(|_| "text".into());
    let (logging, of_librdkafka) = match output.as_str() {
        "text" => (Logging::text("told-0"), None),
        "json" => (Logging::json("told-0"), None),
        "json of a failure" => {
            Logging::json("told-0").init().unwrap();
            let runtime = tokio::runtime::Runtime::new().unwrap();
            assert_eq!(runtime.block_on(failing_job()).unwrap_err().kind(), ErrorKind::Process);
            return;
        }
        "json of retries" => {
            Logging::json("told-0").init().unwrap();
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().start_paused(true).build().unwrap();
            for own_time_out in [20, 12, 5] {
                tracing::info!(target: "job", own_time_out, "asking");
                let store = Retry::new(TimesOut(Duration::from_secs(own_time_out)));
                let error = runtime.block_on(store.get("a")).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Timeout);
            }
            return;
        }
        "json of a failed build" => {
            Logging::json("told-0").init().unwrap();
            let builder = TopicProcessor::builder("told", ["in"]).max_in_flight(0);
            let built = builder.build(|_| Fail);
            let runtime = tokio::runtime::Runtime::new().unwrap();
            assert_eq!(runtime.block_on(built).unwrap_err().kind(), ErrorKind::Config);
            return;
        }
        "json with debug" => (Logging::json("told-0").debug(true), None),
        "json of librdkafka" => (Logging::json("told-0"), Some("broker")),
        "installed already" => {
            let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).without_time();
            lines.with_ansi(false).init();
            let error = Logging::json("told-0").init().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            eprintln!("{error}");
            tracing::info!("still the first");
            return;
        }
        other => panic!("no such output: {other}"),
    };
    logging.init().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(job(of_librdkafka)).unwrap();
}

/// What the job logs.
fn lines(output: &str, directives: &str) -> Vec<String> {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", "the_job_runs_and_logs", "--nocapture"]);
    let ran = program.env(OUTPUT, output).env("RUST_LOG", directives).output().unwrap();
    let log = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.success(), "{log}\n{}", String::from_utf8_lossy(&ran.stdout));
    log.lines().map(str::to_owned).collect()
}

fn objects(output: &str, directives: &str) -> Vec<Value> {
    let parse = |line: &String| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    lines(output, directives).iter().map(parse).collect()
}

fn spans(object: &Value) -> Vec<&str> {
    let spans = object["spans"].as_array().map(Vec::as_slice).unwrap_or_default();
    spans.iter().map(|span| span["name"].as_str().unwrap()).collect()
}

#[test]
fn info_is_quiet_in_steady_state() {
    let objects = objects("json", "");
    assert!(objects.iter().all(|object| object["label"] == "told-0"));
    let (own, others): (Vec<_>, Vec<_>) =
        objects.iter().partition(|object| object["target"] == "job");
    // All that the library says, of more than a hundred batches.
    let said: Vec<&str> = others.iter().map(|object| object["message"].as_str().unwrap()).collect();
    assert_eq!(said, ["running", "assigned", "closed"]);
    assert!(others.iter().all(|object| object["spans"][0]["processor"] == "told"));
    assert_eq!(others[0]["topics"], serde_json::json!(["in"]));
    assert_eq!(others[1]["partitions"], serde_json::json!(["in/0", "in/1"]));
    // What `process` logs says whose it is.
    assert!(own.len() >= 100);
    for object in own {
        assert_eq!(spans(object), ["processor", "partition"]);
        assert_eq!(object["spans"][0]["processor"], "told");
        assert!([0, 1].contains(&object["spans"][1]["partition"].as_i64().unwrap()));
    }
}

#[test]
fn a_failure_is_logged_with_its_causes() {
    let objects = objects("json of a failure", "");
    let failures: Vec<_> = objects.iter().filter(|object| object["level"] == "ERROR").collect();
    let [failure] = failures.as_slice() else { panic!("{objects:?}") };
    assert_eq!(failure["message"], "the processor stops because of an error");
    let error = failure["error"].as_str().unwrap();
    for part in ["topic=in", "partition=0", "the ledger did not answer", "connection refused"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_processor_that_cannot_be_built_is_logged() {
    let objects = objects("json of a failed build", "");
    let [failure] = objects.as_slice() else { panic!("{objects:?}") };
    assert_eq!(
        (&failure["level"], &failure["spans"][0]["processor"]),
        (&"ERROR".into(), &"told".into())
    );
    let error = failure["error"].as_str().unwrap();
    assert!(
        error.contains("`brokers` is not set") && error.contains("`max_in_flight` is 0"),
        "{error}"
    );
}

#[test]
fn a_deadline_that_is_too_short_for_the_stores_own_time_out_is_told() {
    let mut told = Vec::new();
    for object in objects("json of retries", "") {
        match &object["own_time_out"] {
            Value::Null => {
                let few = object["message"].as_str().unwrap().contains("after few attempts");
                *told.last_mut().unwrap() |= few;
            }
            _ => told.push(false),
        }
    }
    assert_eq!(told, [true, true, false], "with time-outs of 20, 12 and 5 s in a deadline of 20 s");
}

#[test]
fn debug_tells_batches_apart() {
    let objects = objects("json with debug", "");
    let own: Vec<_> = objects.iter().filter(|object| object["target"] == "job").collect();
    for object in &own {
        assert_eq!(spans(object), ["processor", "partition", "batch"]);
        let batch = &object["spans"][2];
        let first = format!("in {}..=", object["first"]);
        assert!(batch["offsets"].as_str().unwrap().starts_with(&first), "{object}");
        assert!((1..=20).contains(&batch["messages"].as_i64().unwrap()), "{object}");
    }
    assert!(own.len() >= 100);
}

#[test]
fn librdkafkas_log_goes_through_it() {
    let objects = objects("json of librdkafka", "info,librdkafka=trace");
    let objects: Vec<_> = objects.iter().filter(|o| o["target"] == "librdkafka").collect();
    // The test's own producer is of no processor.
    let told = |object: &Value| object["spans"][0]["processor"] == "told";
    for client in ["metadata", "consumer", "producer"] {
        let of_client = objects.iter().any(|object| told(object) && object["client"] == client);
        assert!(of_client, "nothing of the {client}");
    }
    assert!(objects.iter().all(|object| object["facility"].is_string()));
}

#[test]
fn what_is_installed_already_stays() {
    let lines = lines("installed already", "");
    assert!(lines[0].contains("logging is set up already, and is left as it is"), "{lines:?}");
    assert!(lines[1].contains("INFO") && lines[1].contains("still the first"), "{lines:?}");
}
