//! A recorder for tests: it keeps the values, to be asked by name and labels.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use ::metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

#[derive(Clone, Default)]
pub(crate) struct Book(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    counters: BTreeMap<String, Arc<AtomicU64>>,
    gauges: BTreeMap<String, Arc<AtomicU64>>,
    histograms: BTreeMap<String, Arc<Samples>>,
    help: BTreeMap<String, (Option<Unit>, String)>,
}

#[derive(Default)]
struct Samples(Mutex<Vec<f64>>);

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

impl Book {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap()
    }

    /// Of `name{label=value,…}`, the labels in the catalogue's order without the processor's name.
    pub(crate) fn counter(&self, series: &str) -> u64 {
        let pages = self.pages();
        let known = || pages.counters.keys().cloned().collect::<Vec<_>>();
        let counter = pages.counters.get(series);
        counter.unwrap_or_else(|| panic!("no {series} in {:?}", known())).load(Ordering::SeqCst)
    }

    pub(crate) fn gauge(&self, series: &str) -> f64 {
        let pages = self.pages();
        let known = || pages.gauges.keys().cloned().collect::<Vec<_>>();
        let gauge = pages.gauges.get(series);
        let bits = gauge.unwrap_or_else(|| panic!("no {series} in {:?}", known()));
        f64::from_bits(bits.load(Ordering::SeqCst))
    }

    pub(crate) fn samples(&self, series: &str) -> Vec<f64> {
        self.pages().histograms[series].0.lock().unwrap().clone()
    }

    /// The gauges that are not zero.
    pub(crate) fn raised(&self) -> Vec<String> {
        let pages = self.pages();
        let raised = pages.gauges.iter().filter(|(_, bits)| bits.load(Ordering::SeqCst) != 0);
        raised.map(|(series, _)| series.clone()).collect()
    }

    pub(crate) fn help(&self, name: &str) -> (Option<Unit>, String) {
        self.pages().help[name].clone()
    }

    fn describe(&self, key: &KeyName, unit: Option<Unit>, help: &SharedString) {
        let help = (unit, help.to_string());
        self.pages().help.entry(key.as_str().to_owned()).or_insert(help);
    }
}

fn series(key: &Key) -> String {
    let labels = key.labels().filter(|label| label.key() != "processor");
    let labels: Vec<_> = labels.map(|label| format!("{}={}", label.key(), label.value())).collect();
    assert!(key.labels().any(|label| label.key() == "processor"), "{key}");
    match labels.is_empty() {
        true => key.name().to_owned(),
        false => format!("{}{{{}}}", key.name(), labels.join(",")),
    }
}

impl Recorder for Book {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, unit, &description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, unit, &description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, unit, &description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.pages().counters.entry(series(key)).or_default().clone())
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.pages().gauges.entry(series(key)).or_default().clone())
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.pages().histograms.entry(series(key)).or_default().clone())
    }
}
