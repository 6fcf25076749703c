//! What the raw loop counts into: a map.

use std::cell::RefCell;
use std::collections::HashMap;

use kasper::Bytes;

use crate::common::BoxError;
use crate::common::counting::{Driver, Values};

#[derive(Default)]
pub(crate) struct Memory(RefCell<HashMap<String, Bytes>>);

impl Driver for Memory {
    async fn get_many(&self, keys: &[&str]) -> Result<Values, BoxError> {
        let map = self.0.borrow();
        Ok(keys.iter().map(|key| map.get(*key).cloned()).collect())
    }

    async fn write_many(&self, changes: &[(&str, Bytes)]) -> Result<(), BoxError> {
        let changes = changes.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        self.0.borrow_mut().extend(changes);
        Ok(())
    }
}
