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

/// A recorder that keeps metrics and returns them in Prometheus' text format.
///
/// Clones share the metrics: pass one to each processor that reports here, and keep one to
/// [`render`](Prometheus::render) in your handler of `/metrics`. It has no HTTP server of its own, but the server of
/// [`admin`](crate#where-to-begin) shows the metrics of its processors' recorder at `/metrics` without being told.
/// Histograms of the [catalogue](CATALOGUE) have the buckets that
/// are listed there; your own are summaries.
///
/// ```
/// let prometheus = kasper::metrics::prometheus()?;
/// # #[cfg(feature = "kafka")]
/// let builder = kasper::TopicProcessor::builder("count-orders", ["orders"]).metrics(prometheus.clone());
/// # let metrics = kasper::metrics::Metrics::new("count-orders", prometheus.clone());
/// let sizes = metrics.histogram("order_items", "Items in an order.", &[]);
/// sizes.record(3.0);
/// assert!(prometheus.render().contains("# TYPE order_items summary"));
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

/// A recorder for Prometheus from a configured builder: with labels that all metrics get, for example, or with buckets
/// for your own histograms. This function sets the buckets of the [catalogue](CATALOGUE)'s histograms. Don't switch on
/// the builder's recommended naming or its suffixes for units: the catalogue's names already follow both.
///
/// # Errors
/// The thread for its upkeep can't be started, or the exporter refuses the buckets of a histogram.
///
/// ```
/// use kasper::metrics::{Metrics, PrometheusBuilder, prometheus_from};
///
/// let prometheus = prometheus_from(PrometheusBuilder::new().add_global_label("region", "eu"))?;
/// Metrics::new("count-orders", prometheus.clone()).counter("orders_total", "Orders.", &[]).increment(1);
/// assert!(prometheus.render().contains(r#"orders_total{region="eu",processor="count-orders"} 1"#));
/// # Ok::<(), kasper::Error>(())
/// ```
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
    /// All metrics in Prometheus' text format, version 0.0.4: the body of the response to a scrape, whose content type
    /// is `text/plain; version=0.0.4`. The call formats every series, so make it once for each scrape.
    pub fn render(&self) -> String {
        self.shared.handle.render()
    }

    /// Whether both keep the same metrics.
    #[cfg(feature = "admin")]
    pub(crate) fn shares_metrics_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
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
