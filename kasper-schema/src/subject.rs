//! [`Subject`]: the name under which a schema is registered.

use kasper::{Error, ErrorKind, Result};

/// The subject under which an encoder finds its schema, by one of the strategies that all clients of the registry have.
///
/// ```
/// use kasper_schema::Subject;
///
/// // The topic's name: one schema, with its versions, for all values of a topic. What most programs use.
/// let values = Subject::topic_value("orders"); // `orders-value`
/// let keys = Subject::topic_key("orders"); // `orders-key`
/// // The record's name: `com.example.Order`, in whatever topic.
/// let everywhere = Subject::record_name();
/// // Both: `orders-com.example.Order`. Several types in one topic.
/// let typed = Subject::topic_record_name("orders");
/// # assert_ne!(values, keys);
/// # assert_ne!(everywhere, typed);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Named(String),
    Record,
    TopicRecord(String),
}

impl Subject {
    /// `{topic}-value`: for the values of a topic.
    #[doc(alias = "TopicNameStrategy")]
    pub fn topic_value(topic: &str) -> Self {
        Self(Form::Named(format!("{topic}-value")))
    }

    /// `{topic}-key`: for the keys of a topic.
    #[doc(alias = "TopicNameStrategy")]
    pub fn topic_key(topic: &str) -> Self {
        Self(Form::Named(format!("{topic}-key")))
    }

    /// The full name of the Avro record or Protobuf message.
    #[doc(alias = "RecordNameStrategy")]
    pub fn record_name() -> Self {
        Self(Form::Record)
    }

    /// `{topic}-{record}`, with the full name of the Avro record or Protobuf message.
    #[doc(alias = "TopicRecordNameStrategy")]
    pub fn topic_record_name(topic: impl Into<String>) -> Self {
        Self(Form::TopicRecord(topic.into()))
    }

    /// A subject with any other name.
    pub fn named(name: impl Into<String>) -> Self {
        Self(Form::Named(name.into()))
    }

    /// The name, for a schema whose record has this full name.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput): the strategy wants a name and the schema has none.
    pub(crate) fn name(self, record: Option<&str>) -> Result<String> {
        let nameless = || {
            Error::new(ErrorKind::InvalidInput, "the subject needs a name that the schema lacks")
        };
        match self.0 {
            Form::Named(name) => Ok(name),
            Form::Record => Ok(record.ok_or_else(nameless)?.to_owned()),
            Form::TopicRecord(topic) => Ok(format!("{topic}-{}", record.ok_or_else(nameless)?)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_named_as_by_other_clients() {
        for (subject, expected) in [
            (Subject::topic_value("t"), "t-value"),
            (Subject::topic_key("t"), "t-key"),
            (Subject::record_name(), "a.B"),
            (Subject::topic_record_name("t"), "t-a.B"),
            (Subject::named("x"), "x"),
        ] {
            assert_eq!(subject.name(Some("a.B")).unwrap(), expected);
        }
    }

    #[test]
    fn a_schema_without_a_name_has_no_subject_by_name() {
        assert_eq!(Subject::topic_value("t").name(None).unwrap(), "t-value");
        for subject in [Subject::record_name(), Subject::topic_record_name("t")] {
            assert_eq!(subject.name(None).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }
}
