//! [`Metrics`]: where a processor's metrics go.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit,
    with_recorder,
};

use super::catalogue::{Kind, Metric};

const METADATA: Metadata<'static> = Metadata::new("kasper", Level::INFO, None);

/// Registers metrics with the recorder of one topic processor, under its name.
///
/// Factories get one from [`StartContext::metrics`](crate::StartContext::metrics), for
/// [metered stores](crate::store::Metered) and metrics of your own, and `process` gets it from
/// [`Context::metrics`](crate::Context::metrics). Make one yourself to count outside of a processor.
///
/// Every metric that is registered has the label `processor`, with the name of the topic processor. Registering takes
/// a lock and allocates: do it once, and keep the counter, gauge or histogram. No label should have more than some hundred values, so don't use keys of
/// messages or tenants as labels.
///
/// ```
/// # #[cfg(feature = "prometheus")] {
/// use kasper::metrics::{Counter, Metrics, prometheus};
///
/// struct Watch {
///     large_orders: Counter,
/// }
///
/// // In `TopicProcessor::builder(…).build(|start| Watch::new(start.metrics()))`:
/// impl Watch {
///     fn new(metrics: &Metrics) -> Self {
///         let help = "Orders over 1,000.";
///         Self { large_orders: metrics.counter("orders_large_total", help, &[("country", "NO")]) }
///     }
/// }
///
/// let recorder = prometheus()?;
/// let metrics = Metrics::new("watch-orders", recorder.clone());
/// Watch::new(&metrics).large_orders.increment(3);
/// Watch::new(&metrics).large_orders.increment(1); // the same labels, so the same counter
/// let line = r#"orders_large_total{processor="watch-orders",country="NO"} 4"#;
/// assert!(recorder.render().contains(line));
/// # }
/// # Ok::<(), kasper::Error>(())
/// ```
#[doc(alias = "MetricsProvider")]
#[derive(Clone)]
pub struct Metrics {
    /// `None`: the global one, whichever that is when something is registered.
    recorder: Option<Arc<dyn OwnRecorder>>,
    processor: SharedString,
}

impl Metrics {
    /// Metrics of the processor of this name, with this recorder. To share a recorder, pass an `Arc` of it.
    pub fn new(
        processor: impl Into<String>,
        recorder: impl Recorder + Send + Sync + 'static,
    ) -> Self {
        Self { recorder: Some(Arc::new(recorder)), processor: shared(processor.into()) }
    }

    /// Metrics of the processor of this name, with the global recorder of the `metrics` crate. A metric that is
    /// registered before a recorder is installed is not recorded.
    pub fn global(processor: impl Into<String>) -> Self {
        Self { recorder: None, processor: shared(processor.into()) }
    }

    /// A counter of your own, registered with these labels. `help` explains it to readers of the metrics. If a name is
    /// registered several times, the recorder decides which help text counts.
    #[doc(alias = "NewCounter")]
    pub fn counter(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Counter {
        self.register_counter(Registration::of_user(name, help, labels))
    }

    /// A gauge of your own, as [`counter`](Metrics::counter). Unlike the library's own gauges, it is not set to zero
    /// when a partition is given up.
    #[doc(alias = "NewGauge")]
    pub fn gauge(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Gauge {
        self.register_gauge(Registration::of_user(name, help, labels))
    }

    /// A histogram of your own, as [`counter`](Metrics::counter). The recorder decides on its buckets.
    #[doc(alias = "NewSummary")]
    pub fn histogram(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Histogram {
        self.register_histogram(Registration::of_user(name, help, labels))
    }

    pub(crate) fn counter_of(&self, metric: &'static Metric, values: &[&str]) -> Counter {
        debug_assert_eq!(metric.kind, Kind::Counter);
        self.register_counter(Registration::of_catalogue(metric, values))
    }

    pub(crate) fn gauge_of(&self, metric: &'static Metric, values: &[&str]) -> Gauge {
        debug_assert_eq!(metric.kind, Kind::Gauge);
        self.register_gauge(Registration::of_catalogue(metric, values))
    }

    pub(crate) fn histogram_of(&self, metric: &'static Metric, values: &[&str]) -> Histogram {
        debug_assert_eq!(metric.kind, Kind::Histogram);
        self.register_histogram(Registration::of_catalogue(metric, values))
    }

    /// The recorder, if it is one whose metrics can be scraped, or an `Arc` of one.
    #[cfg(all(feature = "admin", feature = "prometheus"))]
    pub(crate) fn prometheus(&self) -> Option<super::Prometheus> {
        let recorder: &dyn Any = self.recorder.as_deref()?;
        let shared = || recorder.downcast_ref::<Arc<super::Prometheus>>().map(Arc::as_ref);
        recorder.downcast_ref().or_else(shared).cloned()
    }

    fn register_counter(&self, registration: Registration) -> Counter {
        self.with(registration, |recorder, key, Registration { name, unit, help, .. }| {
            recorder.describe_counter(name, unit, help);
            recorder.register_counter(key, &METADATA)
        })
    }

    fn register_gauge(&self, registration: Registration) -> Gauge {
        self.with(registration, |recorder, key, Registration { name, unit, help, .. }| {
            recorder.describe_gauge(name, unit, help);
            recorder.register_gauge(key, &METADATA)
        })
    }

    fn register_histogram(&self, registration: Registration) -> Histogram {
        self.with(registration, |recorder, key, Registration { name, unit, help, .. }| {
            recorder.describe_histogram(name, unit, help);
            recorder.register_histogram(key, &METADATA)
        })
    }

    fn with<T>(
        &self,
        mut registration: Registration,
        register: impl FnOnce(&dyn Recorder, &Key, Registration) -> T,
    ) -> T {
        let mut labels = std::mem::take(&mut registration.labels);
        labels.insert(0, Label::new("processor", self.processor.clone()));
        let key = Key::from_parts(registration.name.clone(), labels);
        match &self.recorder {
            Some(recorder) => register(recorder.as_ref(), &key, registration),
            None => with_recorder(|recorder| register(recorder, &key, registration)),
        }
    }
}

/// A recorder whose type can be asked for.
trait OwnRecorder: Recorder + Any + Send + Sync {}

impl<R: Recorder + Send + Sync + 'static> OwnRecorder for R {}

/// Cloned often.
fn shared(name: String) -> SharedString {
    SharedString::from(Arc::<str>::from(name))
}

/// What a recorder is told of a metric.
struct Registration {
    name: KeyName,
    unit: Option<Unit>,
    help: SharedString,
    labels: Vec<Label>,
}

impl Registration {
    fn of_user(name: &str, help: &str, labels: &[(&str, &str)]) -> Self {
        let labels = labels.iter();
        Self {
            name: KeyName::from(name.to_owned()),
            unit: None,
            help: SharedString::from(help.to_owned()),
            labels: labels
                .map(|(name, value)| Label::new(name.to_string(), value.to_string()))
                .collect(),
        }
    }

    fn of_catalogue(metric: &'static Metric, values: &[&str]) -> Self {
        debug_assert_eq!(metric.labels.len(), values.len());
        let labels = metric.labels.iter().zip(values);
        Self {
            name: KeyName::from_const_str(metric.name),
            unit: Some(metric.unit),
            help: SharedString::const_str(metric.help),
            labels: labels.map(|(name, value)| Label::new(*name, value.to_string())).collect(),
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("processor", &self.processor)
            .field("global", &self.recorder.is_none())
            .finish()
    }
}
