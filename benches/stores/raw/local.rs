//! The storage engine, called where the caller is.

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _};
use kasper::Bytes;

use super::Values;
use crate::common::BoxError;
use crate::place::Place;

pub(crate) struct Local {
    database: Database,
    keyspace: Keyspace,
}

impl Local {
    pub(crate) fn open(place: &Place) -> Result<Self, BoxError> {
        let database = Database::builder(place.directory()).open()?;
        // The name that the store gives it, so that the results can be checked through a store.
        let keyspace = database.keyspace("kasper", KeyspaceCreateOptions::default)?;
        Ok(Self { database, keyspace })
    }

    pub(crate) fn get_many(&self, keys: &[&str]) -> Result<Values, BoxError> {
        let snapshot = self.database.snapshot();
        let get = |key: &&str| {
            let value = snapshot.get(&self.keyspace, *key)?;
            Ok(value.map(|value| Bytes::copy_from_slice(&value)))
        };
        keys.iter().map(get).collect()
    }

    pub(crate) fn write_many(&self, changes: &[(&str, Bytes)]) -> Result<(), BoxError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::Buffer));
        for (key, value) in changes {
            batch.insert(&self.keyspace, *key, &value[..]);
        }
        Ok(batch.commit()?)
    }
}
