//! [`Prometheus`]: a recorder whose metrics can be scraped.

use std::fmt;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use super::catalogue::{CATALOGUE, Kind};
use crate::error::{Error, ErrorKind, Result};

/// How often what histograms have recorded is put into buckets, if nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// A recorder that keeps metrics and gives them in Prometheus' text format.
///
/// Clones share the metrics; give one to each processor that is to report here, and keep one to
/// [`render`](Prometheus::render) in the handler of `/metrics`. It has no server of its own, and none is needed:
/// the text is what counts. Histograms of the [catalogue](CATALOGUE) come with their buckets, others as summaries.
///
/// ```
/// let prometheus = kasper::metrics::prometheus()?;
/// # #[cfg(feature = "kafka")]
/// let builder = kasper::TopicProcessor::builder("count-orders", ["orders"]).metrics(prometheus.clone());
/// let text: String = prometheus.render();
/// # Ok::<(), kasper::Error>(())
/// ```
#[doc(alias = "NewPrometheus")]
#[derive(Clone)]
pub struct Prometheus {
    shared: Arc<Installed>,
}

struct Installed {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    /// Upkeep ends when it is dropped.
    _upkeep: mpsc::Sender<()>,
}

/// A recorder for Prometheus.
///
/// # Errors
/// The thread for its upkeep can't be started.
pub fn prometheus() -> Result<Prometheus> {
    prometheus_from(PrometheusBuilder::new())
}

/// A recorder for Prometheus as this builder makes it, with labels for all metrics, say, or with buckets for your
/// own histograms. Those of the catalogue get theirs here; leave the builder's recommended naming and its suffix
/// for units off, since the catalogue's names have both.
///
/// # Errors
/// The thread for its upkeep can't be started.
pub fn prometheus_from(mut builder: PrometheusBuilder) -> Result<Prometheus> {
    let failed = |message: &str| Error::new(ErrorKind::Internal, message);
    for metric in CATALOGUE.iter().filter(|metric| metric.kind == Kind::Histogram) {
        let name = Matcher::Full(metric.name.to_owned());
        builder = builder.set_buckets_for_metric(name, metric.buckets).map_err(|error| {
            failed("the Prometheus exporter refused the buckets of a histogram").with_source(error)
        })?;
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    let (upkeep, ended) = mpsc::channel::<()>();
    let kept_up = handle.clone();
    let keep_up = move || {
        while ended.recv_timeout(UPKEEP) == Err(mpsc::RecvTimeoutError::Timeout) {
            kept_up.run_upkeep();
        }
    };
    let thread = thread::Builder::new().name("kasper-prometheus".into()).spawn(keep_up);
    thread.map_err(|error| failed("can't start the thread for upkeep").with_source(error))?;
    Ok(Prometheus { shared: Arc::new(Installed { recorder, handle, _upkeep: upkeep }) })
}

impl Prometheus {
    /// All metrics in Prometheus' text format, version 0.0.4: the answer to a scrape, with the content type
    /// `text/plain; version=0.0.4`. Takes a moment for each series; call it once a scrape.
    pub fn render(&self) -> String {
        self.shared.handle.render()
    }

    /// The exporter's own handle to the registry of metrics.
    #[doc(alias = "Registry")]
    pub fn handle(&self) -> &PrometheusHandle {
        &self.shared.handle
    }
}

impl Recorder for Prometheus {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.shared.recorder.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.shared.recorder.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.shared.recorder.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.shared.recorder.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.shared.recorder.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.shared.recorder.register_histogram(key, metadata)
    }
}

impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prometheus").finish_non_exhaustive()
    }
}
