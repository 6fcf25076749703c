//! [`Logging`]: a subscriber for programs that have none.

use std::fmt;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use super::fields::LISTS;
use crate::error::{Error, ErrorKind, Result};

/// Overrides all of it.
const VARIABLE: &str = "RUST_LOG";

/// Writes a program's log to standard error: what the library logs, and everything else that is logged through
/// `tracing`.
///
/// ```
/// use kasper::logging::Logging;
///
/// Logging::json("twitter-reach-0").init()?;
/// // There is one subscriber for the whole process, and the first one stays.
/// assert_eq!(Logging::basic().init().unwrap_err().kind(), kasper::ErrorKind::Config);
/// # Ok::<(), kasper::Error>(())
/// ```
///
/// The level is `info`. With [`debug`](Logging::debug), it is `debug` for Kasper and librdkafka, and `info` for all
/// others. If the environment variable `RUST_LOG` is set and not empty, it replaces both, with the
/// [directives](https://docs.rs/tracing-subscriber/0.3/tracing_subscriber/filter/struct.EnvFilter.html#directives) of
/// `tracing`: `RUST_LOG=info,kasper=debug,my_job=trace`.
#[derive(Debug, Clone)]
#[must_use = "nothing is installed before `init`"]
pub struct Logging {
    style: Style,
    label: Option<String>,
    debug: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Style {
    Basic,
    Text,
    Json,
}

impl Logging {
    /// Short lines for people: time, level, names of the spans, message and fields.
    #[doc(alias = "NewBasicLogger")]
    pub fn basic() -> Self {
        Self { style: Style::Basic, label: None, debug: false }
    }

    /// Lines with everything that is known of an event, which begin with `label=…`.
    #[doc(alias = "NewTextLogger")]
    pub fn text(label: impl Into<String>) -> Self {
        Self { style: Style::Text, label: Some(label.into()), debug: false }
    }

    /// One JSON object for each line, with `label`, `timestamp`, `level`, `target`, `message`, the event's own fields,
    /// and `spans`, the outermost first.
    #[doc(alias = "NewJSONLogger")]
    pub fn json(label: impl Into<String>) -> Self {
        Self { style: Style::Json, label: Some(label.into()), debug: false }
    }

    /// Switches `debug` on for Kasper and librdkafka. Default: off.
    pub fn debug(mut self, on: bool) -> Self {
        self.debug = on;
        self
    }

    /// Installs the subscriber for the whole process.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): a subscriber is already installed, and stays; or `RUST_LOG` has a directive that
    /// can't be read.
    pub fn init(self) -> Result<()> {
        let variable = std::env::var(VARIABLE).ok();
        let subscriber = self.subscriber(variable.as_deref(), std::io::stderr)?;
        tracing::subscriber::set_global_default(subscriber).map_err(|error| {
            let text = "logging is set up already, and is left as it is";
            Error::new(ErrorKind::Config, text).with_source(error)
        })
    }

    fn subscriber<W>(
        self,
        variable: Option<&str>,
        writer: W,
    ) -> Result<Box<dyn Subscriber + Send + Sync>>
    where
        W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    {
        let builder = tracing_subscriber::fmt()
            .with_env_filter(self.filter(variable)?)
            .with_writer(writer)
            .with_ansi(false);
        let label = self.label.unwrap_or_default();
        Ok(match self.style {
            Style::Basic => Box::new(builder.compact().with_target(false).finish()),
            Style::Text => Box::new(builder.event_format(Labelled::text(&label)).finish()),
            Style::Json => {
                let lines = Labelled::json(&label);
                Box::new(builder.fmt_fields(JsonFields::new()).event_format(lines).finish())
            }
        })
    }

    fn filter(&self, variable: Option<&str>) -> Result<EnvFilter> {
        let default = if self.debug { "info,kasper=debug,librdkafka=debug" } else { "info" };
        let directives = variable.filter(|text| !text.trim().is_empty()).unwrap_or(default);
        EnvFilter::try_new(directives).map_err(|error| {
            let text = format!("{VARIABLE} can't be read: \"{directives}\"");
            Error::new(ErrorKind::Config, text).with_source(error)
        })
    }
}

/// Puts the label in front of what another format writes.
struct Labelled<F> {
    prefix: String,
    /// What the prefix stands in place of.
    opening: &'static str,
    is_json: bool,
    lines: F,
}

impl Labelled<Format> {
    fn text(label: &str) -> Self {
        let quoted = label.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"');
        let prefix = if quoted { format!("label={label:?} ") } else { format!("label={label} ") };
        Self { prefix, opening: "", is_json: false, lines: Format::default().with_ansi(false) }
    }
}

impl Labelled<Format<Json>> {
    fn json(label: &str) -> Self {
        let prefix = format!("{{\"label\":{},", serde_json::Value::from(label));
        let lines = Format::default().json().flatten_event(true).with_current_span(false);
        Self { prefix, opening: "{", is_json: true, lines }
    }
}

impl<S, N, F> FormatEvent<S, N> for Labelled<F>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.lines.format_event(context, Writer::new(&mut line), event)?;
        let is_ours = event.metadata().target().starts_with("kasper");
        let line = if self.is_json && is_ours { with_lists(line) } else { line };
        let line = line.strip_prefix(self.opening).ok_or(fmt::Error)?;
        write!(writer, "{}{line}", self.prefix)
    }
}

/// The JSON object with lists where the library has [joined](super::list) them to text. The names and numbers in them have
/// no characters that JSON escapes.
fn with_lists(mut line: String) -> String {
    for name in LISTS {
        let start = format!("\"{name}\":\"");
        let Some(begin) = line.find(&start).map(|found| found + start.len()) else { continue };
        let Some(length) = line[begin..].find('"') else { continue };
        let items = line[begin..begin + length].replace(' ', "\",\"");
        let list = if items.is_empty() { "[]".to_owned() } else { format!("[\"{items}\"]") };
        line.replace_range(begin - 1..begin + length + 1, &list);
    }
    line
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        /// What is logged: a line of each kind.
        ///
        /// One at a time: a subscriber that comes while another one's first event is being looked at can miss later
        /// events of the same place.
        fn of(logging: Logging, variable: Option<&str>) -> Vec<String> {
            static ALONE: Mutex<()> = Mutex::new(());
            let _alone = ALONE.lock();
            let lines = Self::default();
            let writer = lines.clone();
            let subscriber = logging.subscriber(variable, move || writer.clone()).unwrap();
            tracing::subscriber::with_default(subscriber, || {
                let processor = tracing::info_span!("processor", processor = "orders");
                let partition = tracing::info_span!(parent: &processor, "partition", partition = 3);
                partition.in_scope(|| tracing::info!(lag = 7, "a \"quoted\" text"));
                tracing::debug!(target: "kasper::pipeline", "of kasper");
                tracing::debug!(target: "librdkafka", "of librdkafka");
                tracing::debug!(target: "hyper", "of others");
            });
            let bytes = lines.0.lock().unwrap().clone();
            String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
        }
    }

    #[test]
    fn basic_has_no_label_and_no_target() {
        let lines = Lines::of(Logging::basic(), None);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("INFO") && lines[0].contains("a \"quoted\" text"), "{lines:?}");
        assert!(!lines[0].contains("kasper::") && !lines[0].contains("label"), "{lines:?}");
    }

    #[test]
    fn text_begins_with_the_label() {
        let lines = Lines::of(Logging::text("reach-0"), None);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("label=reach-0 2"), "{lines:?}");
        for part in ["processor=\"orders\"", "partition=3", "lag=7"] {
            assert!(lines[0].contains(part), "{part}: {lines:?}");
        }
        let quoted = Lines::of(Logging::text("a \"label\""), None);
        assert!(quoted[0].starts_with("label=\"a \\\"label\\\"\" 2"), "{quoted:?}");
    }

    #[test]
    fn json_is_an_object_a_line() {
        let lines = Lines::of(Logging::json("a \"label\"\n"), None);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["label"], "a \"label\"\n");
        assert_eq!((&line["level"], &line["lag"]), (&"INFO".into(), &7.into()));
        assert_eq!(line["message"], "a \"quoted\" text");
        assert!(line["timestamp"].as_str().unwrap().starts_with("20"));
        assert_eq!(line["spans"][0]["processor"], "orders");
        assert_eq!(line["spans"][1]["partition"], 3);
    }

    #[test]
    fn lists_are_lists_in_json() {
        let line = r#"{"topics":"a b.c","partitions":"a/0","message":"said \"topics\":\"x y\""}"#;
        let expected =
            r#"{"topics":["a","b.c"],"partitions":["a/0"],"message":"said \"topics\":\"x y\""}"#;
        assert_eq!(with_lists(line.to_owned()), expected);
        assert_eq!(
            with_lists(r#"{"partitions":3,"topics":""}"#.into()),
            r#"{"partitions":3,"topics":[]}"#
        );
    }

    #[test]
    fn debug_is_for_kasper_and_the_environment_overrides_it() {
        let count = |logging: Logging, variable| Lines::of(logging, variable).len();
        assert_eq!(count(Logging::basic().debug(true), None), 3);
        assert_eq!(count(Logging::basic().debug(true), Some(" ")), 3);
        assert_eq!(count(Logging::basic().debug(true), Some("warn")), 0);
        assert_eq!(count(Logging::basic(), Some("debug")), 4);
        let error = Logging::basic().subscriber(Some("kasper=loud"), io::sink).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("RUST_LOG") && error.to_string().contains("loud"));
    }
}
