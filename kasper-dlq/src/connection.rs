//! Where Kafka is, and the properties of its client. Values of properties are never printed: they may be secret.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;

#[derive(Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// The brokers to ask first: host:port, several separated by commas
    #[arg(long, global = true, env = "KASPER_DLQ_BROKERS")]
    pub(crate) brokers: Option<String>,

    /// A property of librdkafka, `security.protocol=SASL_SSL` say; may be given several times. Other users of the
    /// machine can see a command's arguments: put passwords into a file
    #[arg(long = "property", global = true, value_name = "NAME=VALUE")]
    pub(crate) properties: Vec<String>,

    /// A file with properties of librdkafka, NAME=VALUE in each line, `#` before comments; --property goes before it
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) properties_file: Option<PathBuf>,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Property {
    name: String,
    value: String,
}

impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=(hidden)", self.name)
    }
}

impl Property {
    /// `None` if it is not NAME=VALUE. Not an error with the text in it: that may be a password.
    fn parse(text: &str, separators: &[char]) -> Option<Self> {
        let (name, value) = text.split_once(separators)?;
        let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
        (!name.is_empty()).then_some(Self { name, value })
    }
}

/// What the arguments and the file come to.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) brokers: String,
    properties: Vec<Property>,
}

/// Names under which the brokers may be given in the file.
const BROKERS: &[&str] = &["bootstrap.servers", "metadata.broker.list"];

impl ConnectionArgs {
    /// # Errors
    /// There are no brokers, or the file cannot be read.
    pub(crate) fn connection(&self) -> Result<Connection> {
        let mut properties = match &self.properties_file {
            Some(file) => read(file)?,
            None => Vec::new(),
        };
        for (number, text) in (1..).zip(&self.properties) {
            let property = Property::parse(text, &['=']);
            properties.push(
                property
                    .with_context(|| format!("--property number {number} is not NAME=VALUE"))?,
            );
        }
        let mut brokers = self.brokers.clone();
        for property in &properties {
            if BROKERS.contains(&property.name.as_str()) && self.brokers.is_none() {
                brokers = Some(property.value.clone());
            }
        }
        properties.retain(|property| !BROKERS.contains(&property.name.as_str()));
        if properties.iter().any(|property| property.name == "group.id") {
            bail!(
                "property `group.id`: `replay --group` sets the group; the other commands have none"
            );
        }
        let Some(brokers) = brokers.filter(|brokers| !brokers.trim().is_empty()) else {
            bail!("no brokers: give --brokers host:port, or set KASPER_DLQ_BROKERS");
        };
        Ok(Connection { brokers, properties })
    }
}

impl Connection {
    /// A client's configuration: the properties that were given, and over them those that the program needs.
    pub(crate) fn config(&self, own: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        for Property { name, value } in &self.properties {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.brokers);
        for (name, value) in own {
            config.set(*name, *value);
        }
        config
    }

    /// All properties but the brokers, by name and value.
    pub(crate) fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.properties.iter().map(|property| (property.name.as_str(), property.value.as_str()))
    }
}

/// librdkafka's words quote the value that it refuses.
pub(crate) fn refused(error: &KafkaError) -> anyhow::Error {
    match error {
        KafkaError::ClientConfig(_, reason, name, value) => {
            let reason = if value.is_empty() {
                reason.clone()
            } else {
                reason.replace(value.as_str(), "…")
            };
            anyhow::anyhow!("property `{name}` is refused: {reason}")
        }
        error => anyhow::anyhow!("the Kafka client cannot be made: {error}"),
    }
}

fn read(file: &Path) -> Result<Vec<Property>> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read the properties file {}", file.display()))?;
    parse(&text).with_context(|| format!("in the properties file {}", file.display()))
}

/// As Java reads properties, but for escapes: a line that ends with a backslash goes on in the next one.
fn parse(text: &str) -> Result<Vec<Property>> {
    let mut properties = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        let mut line = line.trim().to_owned();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        while line.ends_with('\\') {
            line.pop();
            line.push_str(lines.next().map_or("", |(_, next)| next.trim()));
        }
        let property = Property::parse(&line, &['=', ':']);
        properties.push(property.with_context(|| format!("line {number} is not NAME=VALUE"))?);
    }
    Ok(properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(properties: &[Property]) -> Vec<(&str, &str)> {
        properties.iter().map(|p| (p.name.as_str(), p.value.as_str())).collect()
    }

    #[test]
    fn a_file_is_read_as_java_reads_it() {
        let text = "# comment\n! another\n\n security.protocol = SASL_SSL\nsasl.password=a=b:c\r\n\
                    client.id: me\nssl.ca.location=/a/\\\n    b.pem\nempty=\n";
        let read = parse(text).unwrap();
        let expected = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.password", "a=b:c"),
            ("client.id", "me"),
            ("ssl.ca.location", "/a/b.pem"),
            ("empty", ""),
        ];
        assert_eq!(pairs(&read), expected);
    }

    #[test]
    fn errors_and_debug_output_hold_no_values() {
        let error = format!("{:#}", parse("a=b\nsecret-word\n").unwrap_err());
        assert!(error.contains("line 2") && !error.contains("secret-word"), "{error}");
        let property = Property::parse("sasl.password=secret", &['=']).unwrap();
        assert_eq!(format!("{property:?}"), "sasl.password=(hidden)");
        let mut config = ClientConfig::new();
        config.set("no.such.property", "secret");
        let error = config.create::<rdkafka::consumer::BaseConsumer>().err().unwrap();
        let error = refused(&error).to_string();
        assert!(error.contains("no.such.property") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn brokers_come_from_the_argument_or_else_from_the_file() {
        let args = |brokers: Option<&str>, properties: &[&str]| ConnectionArgs {
            brokers: brokers.map(str::to_owned),
            properties: properties.iter().map(|p| (*p).to_owned()).collect(),
            properties_file: None,
        };
        let connection =
            args(None, &["bootstrap.servers=a:1", "client.id=x"]).connection().unwrap();
        assert_eq!(connection.brokers, "a:1");
        assert_eq!(pairs(&connection.properties), [("client.id", "x")]);
        let connection = args(Some("b:1"), &["bootstrap.servers=a:1"]).connection().unwrap();
        assert_eq!(connection.brokers, "b:1");
        let error = args(None, &[]).connection().unwrap_err().to_string();
        assert!(error.contains("--brokers"), "{error}");
        let error = args(Some("a:1"), &["group.id=x"]).connection().unwrap_err().to_string();
        assert!(error.contains("--group"), "{error}");
        for wrong in ["=secret-word", "secret-word", "sasl.password:secret-word"] {
            let error = args(Some("a:1"), &["a=b", wrong]).connection().unwrap_err().to_string();
            assert_eq!(error, "--property number 2 is not NAME=VALUE");
        }
    }
}
