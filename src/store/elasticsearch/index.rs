//! [`ElasticsearchIndex`]: where documents are.

use crate::error::{Error, ErrorKind, Result};
use crate::store::faults::Faults;

/// An index, and for servers older than version 7 the type of its documents.
///
/// ```
/// use kasper::store::ElasticsearchIndex;
///
/// let index = ElasticsearchIndex::new("word-count");
/// let old = ElasticsearchIndex::new("word-count").document_type("count");
/// assert_ne!(index, old);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ElasticsearchIndex {
    pub(super) name: String,
    pub(super) document_type: Option<String>,
}

impl ElasticsearchIndex {
    /// The index of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), document_type: None }
    }

    /// With a document type, for servers older than version 7. OpenSearch refuses it.
    #[must_use]
    pub fn document_type(mut self, name: impl Into<String>) -> Self {
        self.document_type = Some(name.into());
        self
    }

    /// As a part of a configuration.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): as [`valid`](Self::valid).
    pub(super) fn configured(self) -> Result<Self> {
        let mut faults = Faults::default();
        faults.take(self.valid());
        faults.refuse()?;
        Ok(self)
    }

    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput): as [`valid`](Self::valid).
    pub(super) fn check(&self) -> Result<()> {
        let invalid = |fault| Error::new(ErrorKind::InvalidInput, fault).with("index", &self.name);
        self.valid().map_err(invalid)
    }

    /// Refuses what is not the name of one index: the servers would take `*` or `a,b` for several, and
    /// `_all` for all.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn valid(&self) -> Result<(), String> {
        let name = &self.name;
        let fault = if name.is_empty() || name.len() > 255 || name == "." || name == ".." {
            "it has 1 to 255 bytes and is neither `.` nor `..`"
        } else if name.starts_with(['-', '_', '+']) {
            "it begins with neither `-` nor `_` nor `+`"
        } else if name.contains(['\\', '/', '*', '?', '"', '<', '>', '|', ',', '#', ':'])
            || name.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            r#"it has no space and none of \ / * ? " < > | , # :"#
        } else if name.contains(char::is_uppercase) {
            "it has no capital letters"
        } else if self
            .document_type
            .as_deref()
            .is_some_and(|name| name.is_empty() || name.contains('/'))
        {
            return Err("the document type is empty or has a `/`".to_owned());
        } else {
            return Ok(());
        };
        Err(format!("`{}` is not the name of an index: {fault}", name.escape_default()))
    }
}

impl From<&str> for ElasticsearchIndex {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for ElasticsearchIndex {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

/// Index and document type, as Go's tenancies give them.
impl<I: Into<String>, T: Into<String>> From<(I, T)> for ElasticsearchIndex {
    fn from((name, document_type): (I, T)) -> Self {
        Self::new(name).document_type(document_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_several_indexes_are_refused() {
        for name in
            ["", "_all", "*", "a*", "a,b", "-a", "A", "a b", "a/b", "..", "<a-{now/d}>", "a\n"]
        {
            let error = ElasticsearchIndex::new(name).check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
        }
        for name in ["a", "sales-service~acme", ".hidden", "a.b", "é", "a%b", "1"] {
            ElasticsearchIndex::new(name).check().unwrap();
        }
        ElasticsearchIndex::from(("a", "")).check().unwrap_err();
    }
}
