//! What operators set, outside of the program: in a file that `serde` reads, or in environment variables. Both have
//! the same names, those of the [`Builder`]'s methods, and are read by the same [table](SETTINGS).

use std::ffi::OsString;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::Builder;
use super::options::GroupProtocol;
use crate::setting::{Setting, Wrong};
use crate::settings::{OutOfRange, StartFrom};

/// Takes over a value, or says what is wrong with it.
type Take = fn(&mut Builder, Setting<'_>) -> Result<(), Wrong>;

/// All settings but the properties of librdkafka.
const SETTINGS: &[(&str, Take)] = &[
    ("brokers", |b, s| put(&mut b.options.brokers, Ok(s.value))),
    ("group_id", |b, s| put(&mut b.options.group_id, Ok(Some(s.value)))),
    ("consumer_protocol", |b, s| put(&mut b.options.group_protocol, protocol(&s))),
    ("max_batch_messages", |b, s| put(&mut b.options.max_batch_messages, number(&s))),
    ("max_batch_bytes", |b, s| put(&mut b.options.max_batch_bytes, number(&s))),
    ("max_batch_wait", |b, s| put(&mut b.options.max_batch_wait, s.duration())),
    ("target_latency", |b, s| put(&mut b.options.target_latency, s.duration().map(Some))),
    ("max_in_flight", |b, s| put(&mut b.options.max_in_flight, number(&s))),
    ("max_in_flight_bytes", |b, s| put(&mut b.options.max_in_flight_bytes, number(&s).map(Some))),
    ("max_buffered_bytes", |b, s| put(&mut b.options.max_buffered_bytes, number(&s).map(Some))),
    ("commit_interval", |b, s| put(&mut b.options.commit_interval, s.duration().map(Some))),
    ("offset_refresh_interval", |b, s| put(&mut b.options.offset_refresh_interval, s.duration())),
    ("drain_deadline", |b, s| put(&mut b.options.drain_deadline, s.duration().map(Some))),
    ("commit_timeout", |b, s| put(&mut b.options.commit_timeout, s.duration().map(Some))),
    ("delivery_timeout", |b, s| put(&mut b.options.delivery_timeout, s.duration().map(Some))),
    ("stall_timeout", |b, s| put(&mut b.options.stall_timeout, s.duration())),
    ("connect_timeout", |b, s| put(&mut b.options.connect_timeout, s.duration())),
    ("wait_for_topics", |b, s| put(&mut b.options.wait_for_topics, s.duration())),
    ("start_from", |b, s| put(&mut b.options.start_from, start_from(&s))),
    ("out_of_range", |b, s| put(&mut b.options.out_of_range, out_of_range(&s))),
    ("metrics_interval", |b, s| put(&mut b.options.metrics_interval, s.duration())),
    ("lag_interval", |b, s| put(&mut b.options.lag_interval, s.duration())),
    ("topic_check_interval", |b, s| put(&mut b.options.topic_check_interval, s.duration())),
    ("admin", admin::address),
    ("admin_allow_remote", admin::allow_remote),
    ("admin_token", admin::token),
];

/// The key of a map with librdkafka's properties, and the beginning of environment variables with them.
const KAFKA: &str = "kafka";

fn put<T>(place: &mut T, value: Result<T, Wrong>) -> Result<(), Wrong> {
    value.map(|value| *place = value)
}

fn number(setting: &Setting<'_>) -> Result<usize, Wrong> {
    setting.parsed("a whole number")
}

fn flag(setting: &Setting<'_>) -> Result<bool, Wrong> {
    setting.word(&[("true", true), ("false", false)])
}

fn protocol(setting: &Setting<'_>) -> Result<GroupProtocol, Wrong> {
    flag(setting).map(|on| if on { GroupProtocol::Consumer } else { GroupProtocol::Classic })
}

fn start_from(setting: &Setting<'_>) -> Result<StartFrom, Wrong> {
    setting.word(&[("earliest", StartFrom::Earliest), ("latest", StartFrom::Latest)])
}

fn out_of_range(setting: &Setting<'_>) -> Result<OutOfRange, Wrong> {
    setting.word(&[
        ("fail", OutOfRange::Fail),
        ("earliest", OutOfRange::Earliest),
        ("latest", OutOfRange::Latest),
    ])
}

#[cfg(feature = "admin")]
mod admin {
    use super::{Builder, Setting, Wrong, flag};

    pub(super) fn address(builder: &mut Builder, setting: Setting<'_>) -> Result<(), Wrong> {
        builder.admin.set_address(setting.value);
        Ok(())
    }

    #[allow(clippy::needless_pass_by_value, reason = "as the other settings")]
    pub(super) fn allow_remote(builder: &mut Builder, setting: Setting<'_>) -> Result<(), Wrong> {
        flag(&setting).map(|allowed| builder.admin.set_allow_remote(allowed))
    }

    pub(super) fn token(builder: &mut Builder, setting: Setting<'_>) -> Result<(), Wrong> {
        builder.admin.set_token(setting.value);
        Ok(())
    }
}

#[cfg(not(feature = "admin"))]
mod admin {
    use super::{Builder, Setting, Wrong};

    #[allow(clippy::needless_pass_by_value, reason = "as the other settings")]
    pub(super) fn refused(_: &mut Builder, setting: Setting<'_>) -> Result<(), Wrong> {
        Err(format!("`{}` needs the feature `admin` of the crate kasper", setting.name))
    }

    pub(super) use refused as address;
    pub(super) use refused as allow_remote;
    pub(super) use refused as token;
}

/// What operators set for a topic processor, read by any `serde` format that describes itself (TOML, YAML, JSON);
/// see [`Builder::config`]. Feature `config`.
///
/// Its keys are the names of the [`Builder`]'s methods, and all are optional:
///
/// | keys | values |
/// | --- | --- |
/// | `brokers`, `group_id` | text |
/// | `consumer_protocol` | `true` or `false` |
/// | `max_batch_messages`, `max_batch_bytes`, `max_in_flight`, `max_in_flight_bytes`, `max_buffered_bytes` | whole numbers |
/// | `max_batch_wait`, `target_latency`, `commit_interval`, `offset_refresh_interval`, `drain_deadline`, `commit_timeout`, `delivery_timeout`, `stall_timeout`, `connect_timeout`, `wait_for_topics`, `metrics_interval`, `lag_interval`, `topic_check_interval` | durations with their unit: `"10s"`, `"500ms"`, `"2h"` |
/// | `start_from` | `earliest` or `latest` |
/// | `out_of_range` | `fail`, `earliest` or `latest` |
/// | `admin`, `admin_token` | text: the address of `Builder::admin`, and the token of `Admin::control` |
/// | `admin_allow_remote` | `true` or `false`: `Admin::allow_remote` |
/// | `kafka` | a map of librdkafka's properties: [`Builder::kafka`] |
///
/// Deserializing fails with one error that names every unknown key and every value that cannot be read. Values are
/// in no error and not in the `Debug` output, because they may be passwords.
///
/// ```
/// use kasper::{ProcessorConfig, TopicProcessor};
///
/// #[derive(serde::Deserialize)]
/// struct ServiceConfig {
///     processor: ProcessorConfig,
/// }
///
/// let text = r#"{ "processor": {
///     "brokers": "kafka-1:9092,kafka-2:9092",
///     "drain_deadline": "20s",
///     "max_in_flight": 8,
///     "kafka": { "sasl.username": "orders", "sasl.password": "secret" }
/// } }"#;
/// let config: ServiceConfig = serde_json::from_str(text).unwrap();
/// let builder = TopicProcessor::builder("orders", ["orders"]).config(&config.processor);
///
/// let text = r#"{ "processor": { "drain_deadline": 20, "max_in_flight": "many", "broker": "kafka:9092" } }"#;
/// let error = serde_json::from_str::<ServiceConfig>(text).err().unwrap().to_string();
/// for fault in ["`drain_deadline` is a duration", "`max_in_flight` is a whole number", "no setting `broker`"] {
///     assert!(error.contains(fault), "{error}");
/// }
/// ```
#[derive(Clone, Default)]
pub struct ProcessorConfig {
    /// By their name in [`SETTINGS`].
    settings: Vec<(String, String)>,
    properties: Vec<(String, String)>,
}

impl ProcessorConfig {
    /// Takes over what is set.
    fn apply(&self, builder: &mut Builder) -> Vec<Wrong> {
        let settings = self.settings.iter();
        let wrong = settings.filter_map(|(name, value)| {
            let setting = Setting { name, value: value.clone() };
            take(builder, name, setting).err()
        });
        let wrong = wrong.collect();
        builder.options.properties.extend(self.properties.iter().cloned());
        wrong
    }
}

/// `name` is what the setting is called in the table; `setting` has the name that its reader knows.
fn take(builder: &mut Builder, name: &str, setting: Setting<'_>) -> Result<(), Wrong> {
    match SETTINGS.iter().find(|(known, _)| *known == name) {
        Some((_, take)) => take(builder, setting),
        None => Err(format!(
            "there is no setting `{}` (the documentation of `ProcessorConfig` lists them)",
            setting.name
        )),
    }
}

impl fmt::Debug for ProcessorConfig {
    /// Names, and no values: they hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |list: &[(String, String)]| -> Vec<String> {
            list.iter().map(|(name, _)| name.clone()).collect()
        };
        f.debug_struct("ProcessorConfig")
            .field("settings", &names(&self.settings))
            .field("kafka", &names(&self.properties))
            .finish()
    }
}

impl<'de> Deserialize<'de> for ProcessorConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Value::Map(entries) = Value::deserialize(deserializer)? else {
            return Err(D::Error::custom(
                "the configuration of a processor is a map of its settings",
            ));
        };
        let mut config = Self::default();
        let mut faults = Vec::new();
        for (name, value) in entries {
            match value {
                Value::Nothing => {}
                value if name == KAFKA => match value {
                    Value::Map(properties) => flatten("", properties, &mut config.properties),
                    _ => faults.push(format!("`{KAFKA}` is a map of properties")),
                },
                Value::Text(text) => config.settings.push((name, text)),
                Value::Map(_) => faults.push(format!("`{name}` is a map, and not one value")),
            }
        }
        // Whether the values can be read is seen here already, beside the file that they come from.
        faults.extend(config.apply(&mut Builder::new(String::new(), Vec::new())));
        if faults.is_empty() { Ok(config) } else { Err(D::Error::custom(faults.join("; "))) }
    }
}

/// TOML reads `sasl.password = "…"` as a table in a table.
fn flatten(prefix: &str, entries: Vec<(String, Value)>, properties: &mut Vec<(String, String)>) {
    for (name, value) in entries {
        let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            Value::Nothing => {}
            Value::Text(text) => properties.push((name, text)),
            Value::Map(entries) => flatten(&name, entries, properties),
        }
    }
}

/// A value in a file. Numbers and `true` are taken for the text that stands for them.
enum Value {
    Nothing,
    Text(String),
    Map(Vec<(String, Value)>),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, `true`, `false` or a map")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Value, M::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}

impl Builder {
    /// Takes over what operators set, for example in a file. Feature `config`.
    ///
    /// As with every setting, the last call counts: what is set before this call is a default, which the
    /// configuration can replace, and what is set after it is fixed. Properties of librdkafka add to those that are
    /// already set, and replace those of the same name. See [`ProcessorConfig`] for an example.
    pub fn config(mut self, config: &ProcessorConfig) -> Self {
        let faults = config.apply(&mut self);
        self.options.faults.extend(faults);
        self
    }

    /// Takes over what operators set in environment variables. Feature `config`.
    ///
    /// Their names are the prefix, `_`, and the keys of [`ProcessorConfig`] in upper case: `KASPER_BROKERS`,
    /// `KASPER_MAX_IN_FLIGHT`, `KASPER_DRAIN_DEADLINE=10s`. Properties of librdkafka begin with `KASPER_KAFKA_`, and
    /// have `_` for `.`: `KASPER_KAFKA_SASL_PASSWORD` is `sasl.password`. The environment is read in this call, which
    /// replaces what was set before it, as [`config`](Builder::config) does.
    ///
    /// [`build`](Builder::build) reports every fault, together with all others: values that cannot be read, by the
    /// name of the variable and without the value, and each variable that has the prefix and is no setting. So the
    /// prefix should be the service's own. Kubernetes sets variables such as `ORDERS_PORT` for each service of the
    /// namespace, here one called `orders`, unless the pod has `enableServiceLinks: false`.
    ///
    /// ```no_run
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct Count;
    /// # impl Processor for Count {
    /// #     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> { Ok(()) }
    /// # }
    /// # async fn example() -> kasper::Result<()> {
    /// let processor = kasper::TopicProcessor::builder("count-orders", ["orders"])
    ///     .brokers("localhost:9092") // unless KASPER_BROKERS is set
    ///     .config_from_env("KASPER")
    ///     .allow_unaligned_topics() // whatever the environment says
    ///     .build(|_| Count)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn config_from_env(self, prefix: &str) -> Self {
        self.config_from_vars(prefix, std::env::vars_os())
    }

    /// Like [`config_from_env`](Builder::config_from_env), with these variables instead of the process's: for tests.
    ///
    /// ```
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct Count;
    /// # impl Processor for Count {
    /// #     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> { Ok(()) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let variables = [
    ///     ("KASPER_BROKERS", "localhost:9092"),
    ///     ("KASPER_KAFKA_SASL_PASSWORD", "hunter2"),
    ///     ("KASPER_KAFKA_ACKS", "1"),
    ///     ("KASPER_DRAIN_DEADLINE", "soon"),
    ///     ("KASPER_MAX_INFLIGHT", "8"),
    ///     ("HOME", "/root"),
    /// ];
    /// let builder = kasper::TopicProcessor::builder("count-orders", ["orders"]);
    /// let error = builder.config_from_vars("KASPER", variables).build(|_| Count).await.unwrap_err();
    /// for fault in [
    ///     "`KASPER_DRAIN_DEADLINE` is a duration with its unit",
    ///     "no setting `KASPER_MAX_INFLIGHT`",
    ///     "property `acks` is set by the library",
    /// ] {
    ///     assert!(error.to_string().contains(fault), "{error}");
    /// }
    /// # }
    /// ```
    pub fn config_from_vars<N, V>(
        mut self,
        prefix: &str,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        if prefix.is_empty() || prefix.ends_with('_') {
            let fault = format!(
                "the prefix of environment variables is `{prefix}`: give it a name without the `_` that follows it, \
                 such as `ORDERS`"
            );
            self.options.faults.push(fault);
        }
        let own = variables.into_iter().filter_map(|(name, value)| {
            // Names that are not text are not ours.
            let name = name.into().into_string().ok()?;
            let short = name.strip_prefix(prefix)?.strip_prefix('_')?.to_owned();
            Some((name, short, value.into()))
        });
        let mut own: Vec<_> = own.collect();
        // The order of the environment is nobody's choice, and the faults stand in a message.
        own.sort();
        for (name, short, value) in own {
            if let Err(fault) = self.take_variable(&name, &short, value) {
                self.options.faults.push(fault);
            }
        }
        self
    }

    fn take_variable(&mut self, name: &str, short: &str, value: OsString) -> Result<(), Wrong> {
        let value = value.into_string().map_err(|_| format!("`{name}` is not UTF-8"))?;
        // Lower case stays unknown: a variable has one name.
        let lower =
            |text: &str| text.chars().all(|c| !c.is_lowercase()).then(|| text.to_lowercase());
        let key = lower(short).unwrap_or_default();
        match key.strip_prefix(KAFKA).and_then(|rest| rest.strip_prefix('_')) {
            Some(property) => {
                self.options.properties.push((property_named(property), value));
                Ok(())
            }
            None => take(self, &key, Setting { name, value }),
        }
    }
}

/// Of all properties that are text, `log_level` alone has no dots.
fn property_named(variable: &str) -> String {
    match variable {
        "log_level" => variable.to_owned(),
        _ => variable.replace('_', "."),
    }
}

#[cfg(test)]
mod tests;
