//! [`ProofStore`]: the store that a processor under proof works on.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::Bytes;

use super::recorder::{Does, Name, Passage, Phase, Recorder};
use crate::error::{Error, ErrorKind, Result};
use crate::multitenant::tenants::{Tenants, check_fetch, check_push, check_tenant};
use crate::multitenant::{MultiStore, TenantKey, TenantMap};
use crate::store::Store;
use crate::store::limits::Limits;

/// The store of a processor that is [proved](super::prove()): in memory, a [`Store`] and a [`MultiStore`] at once, and
/// with calls that stop and fail as the schedule wants it.
///
/// It stands where the store of the program stands: as the type of a processor that is generic over its store, within
/// [`TypedStore`](crate::store::TypedStore), [`AnyStore::new`](crate::store::AnyStore::new) or
/// [`AnyMultiStore::new`](crate::multitenant::AnyMultiStore::new), and within wrappers such as
/// [`Cached`](crate::store::Cached). Clones share the data, as do the stores of all processes of a run. Each run begins
/// with an empty store. It is in memory, and wraps no other, so that hundreds of runs begin empty and end with
/// contents that can be listed.
///
/// It keeps the rules of both traits. A write of several keys may be cut in two by a fault, as rule 9 of
/// [`Store`](Store#rules) allows; see [`Prover::atomic_writes`](super::Prover::atomic_writes).
#[derive(Clone)]
pub struct ProofStore {
    recorder: Arc<Recorder>,
    /// Of the process that it was made for.
    is_dead: Arc<AtomicBool>,
    store: Arc<str>,
    tenant: Option<Arc<str>>,
    /// The tenants that this process has met.
    met: Tenants<()>,
}

impl ProofStore {
    pub(super) fn new(recorder: Arc<Recorder>, is_dead: Arc<AtomicBool>) -> Self {
        Self { recorder, is_dead, store: "".into(), tenant: None, met: Tenants::default() }
    }

    /// Another store, for a processor that has several. The same name gives the same data, in all processes of a run. In
    /// a report, its keys have the name and a colon in front.
    ///
    /// ```
    /// use kasper::codec::Text;
    /// use kasper::store::TypedStore;
    /// use kasper::testkit::{ProofStore, TestMessage, prove};
    /// # use kasper::{Batch, BoxError, Context, Processor, StartContext};
    ///
    /// struct Profiles {
    ///     names: TypedStore<ProofStore, Text, String>,
    ///     cities: TypedStore<ProofStore, Text, String>,
    /// }
    /// # impl Processor for Profiles {
    /// #     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
    /// #         for message in batch.iter() {
    /// #             let key = message.key_str()?;
    /// #             self.names.put(key, &"Ada".to_owned()).await?;
    /// #             self.cities.put(key, &"Basel".to_owned()).await?;
    /// #         }
    /// #         Ok(())
    /// #     }
    /// # }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let proof = prove(["profiles"], [TestMessage::new("profiles").key("a")], |store| {
    ///     move |_: &StartContext| Profiles {
    ///         names: TypedStore::new(store.clone(), Text),
    ///         cities: TypedStore::new(store.other("cities"), Text),
    ///     }
    /// });
    /// proof.seeds(20).check().await.unwrap();
    /// # }
    /// ```
    #[must_use]
    pub fn other(&self, name: &str) -> Self {
        Self { store: name.into(), met: Tenants::default(), ..self.clone() }
    }

    fn name(&self, key: &str) -> Name {
        Name { store: self.store.clone(), tenant: self.tenant.clone(), key: key.to_owned() }
    }

    /// # Errors
    /// The schedule lets the call fail here.
    async fn pass(&self, does: Does, phase: Phase, names: &[&Name]) -> Result<()> {
        let mut has_waited = false;
        let mut has_stopped = false;
        poll_fn(|task| {
            if has_stopped || self.is_dead.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            if has_waited {
                return Poll::Ready(Ok(()));
            }
            match self.recorder.pass(does, phase, names.iter().copied()) {
                Passage::Wait => {
                    has_waited = true;
                    task.waker().wake_by_ref();
                    Poll::Pending
                }
                Passage::Stop => {
                    has_stopped = true;
                    Poll::Pending
                }
                Passage::Fail => Poll::Ready(Err(failure())),
            }
        })
        .await
    }

    async fn read(&self, names: Vec<Name>) -> Result<Vec<Option<Bytes>>> {
        let keys: Vec<&Name> = names.iter().collect();
        self.pass(Does::Read, Phase::Before, &keys).await?;
        let values = self.recorder.read(&names);
        self.pass(Does::Read, Phase::After, &keys).await?;
        Ok(values)
    }

    async fn write(&self, mut changes: Vec<(Name, Option<Bytes>)>) -> Result<()> {
        let first = self.recorder.cut(&mut changes);
        let keys: Vec<&Name> = changes.iter().map(|(name, _)| name).collect();
        self.pass(Does::Write, Phase::Before, &keys).await?;
        self.recorder.write(&changes[..first]);
        if first < changes.len() {
            self.pass(Does::Write, Phase::Partly(first), &keys).await?;
            self.recorder.write(&changes[first..]);
        }
        self.pass(Does::Write, Phase::After, &keys).await
    }

    async fn flush_points(&self) -> Result<()> {
        self.pass(Does::Flush, Phase::Before, &[]).await?;
        self.pass(Does::Flush, Phase::After, &[]).await
    }
}

/// Of a call that the schedule lets fail. The caller adds the operation.
fn failure() -> Error {
    let message = "the schedule of `kasper::testkit::prove` lets this call fail";
    Error::new(ErrorKind::Unavailable, message).retryable()
}

/// The last change of each key.
fn last_changes(
    changes: impl DoubleEndedIterator<Item = (Name, Option<Bytes>)>,
) -> Vec<(Name, Option<Bytes>)> {
    let mut seen = std::collections::BTreeSet::new();
    let mut last: Vec<_> = changes.rev().filter(|(name, _)| seen.insert(name.clone())).collect();
    last.reverse();
    last
}

impl Store for ProofStore {
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        Limits::NONE.check_keys("get_many", keys.iter().copied())?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let names = keys.iter().map(|key| self.name(key)).collect();
        self.read(names).await.map_err(|error| error.with("operation", "get_many"))
    }

    async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> Result<()> {
        let checked = changes.iter().map(|(key, value)| (*key, value.as_ref()));
        Limits::NONE.check_changes("write_many", checked)?;
        if changes.is_empty() {
            return Ok(());
        }
        let changes =
            last_changes(changes.iter().map(|(key, value)| (self.name(key), value.clone())));
        self.write(changes).await.map_err(|error| error.with("operation", "write_many"))
    }

    async fn flush(&self) -> Result<()> {
        self.flush_points().await.map_err(|error| error.with("operation", "flush"))
    }
}

impl MultiStore for ProofStore {
    type Tenant = Self;

    fn tenant(&self, tenant: &str) -> Result<Self> {
        check_tenant("tenant", tenant)?;
        self.meet(tenant)
    }

    fn tenants(&self) -> Vec<String> {
        self.met.names()
    }

    async fn fetch(&self, keys: &[TenantKey<'_>]) -> Result<TenantMap> {
        check_fetch(keys, Limits::NONE)?;
        if keys.is_empty() {
            return Ok(TenantMap::new());
        }
        let names: Result<Vec<Name>> =
            keys.iter().map(|key| Ok(self.meet(key.tenant)?.name(key.key))).collect();
        let values = self.read(names?).await.map_err(|error| error.with("operation", "fetch"))?;
        let found = keys.iter().zip(values).filter(|(_, value)| value.is_some());
        Ok(found.map(|(key, value)| (key.tenant, key.key, value)).collect())
    }

    async fn push(&self, changes: &TenantMap) -> Result<()> {
        check_push(changes, Limits::NONE)?;
        if changes.is_empty() {
            return Ok(());
        }
        let named: Result<Vec<_>> = changes
            .iter()
            .map(|(key, value)| Ok((self.meet(key.tenant)?.name(key.key), value.cloned())))
            .collect();
        self.write(named?).await.map_err(|error| error.with("operation", "push"))
    }

    async fn flush(&self) -> Result<()> {
        self.flush_points().await.map_err(|error| error.with("operation", "flush"))
    }
}

impl ProofStore {
    /// The tenant's store. It knows no tenants of its own.
    fn meet(&self, tenant: &str) -> Result<Self> {
        self.met.get(tenant, || Ok(()))?;
        Ok(Self { tenant: Some(tenant.into()), met: Tenants::default(), ..self.clone() })
    }
}

impl fmt::Debug for ProofStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ProofStore");
        shown.field("name", &self.store).field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::conformance::{Profile, check_multi_store, check_store};

    fn store(atomic: bool) -> ProofStore {
        ProofStore::new(Recorder::new(atomic, 7, false), Arc::default())
    }

    #[tokio::test]
    async fn it_keeps_the_rules() {
        for atomic in [true, false] {
            let profile = Profile::default().many_keys(10_000);
            check_store(&store(atomic), &profile).await;
            check_store(&store(atomic).other("b"), &profile).await;
            check_multi_store(&store(atomic), ["acme", "globex"], &profile).await;
        }
    }

    #[tokio::test]
    async fn stores_of_other_names_and_tenants_are_others() {
        let store = store(false);
        let tenant = store.tenant("acme").unwrap();
        store.put("a", "1").await.unwrap();
        store.other("b").put("a", "2").await.unwrap();
        tenant.put("a", "3").await.unwrap();
        let names: Vec<String> =
            store.recorder.contents().keys().map(ToString::to_string).collect();
        assert_eq!(names, ["a", "acme/a", "b:a"]);
        assert_eq!(store.other("b").get("a").await.unwrap(), Some("2".into()));
        assert_eq!(store.tenants(), ["acme"]);
    }
}
