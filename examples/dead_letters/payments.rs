//! The job: totals per account. And its data.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kasper::store::Store;
use kasper::{Batch, BoxError, Bytes, Context, Error, ErrorKind, Processor};

/// Keeps the sum of each account's payments. A payment says which one it is of its account, and the store has, in the same
/// value as the sum, the number of the last one that counted: so a payment that comes again is not counted again. (A
/// corrected payment needs a new number.)
pub(crate) struct Payments<S> {
    pub(crate) store: Arc<S>,
}

impl<S: Store + 'static> Processor for Payments<S> {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        let keys = batch.distinct_keys().into_iter().map(std::str::from_utf8);
        let keys = keys.collect::<Result<Vec<&str>, _>>()?;
        let mut accounts: BTreeMap<&str, Account> = BTreeMap::new();
        for (key, value) in keys.iter().zip(self.store.get_many(&keys).await?) {
            let account = value.map_or(Ok(Account::default()), |value| Account::read(&value))?;
            accounts.insert(key, account);
        }
        for payment in batch.iter() {
            let (number, amount) = pair(payment.value().unwrap_or_default())?;
            let account = accounts.entry(payment.key_str()?).or_default();
            if number > account.last {
                *account = Account { last: number, total: account.total + amount };
            }
        }
        let changes: Vec<(&str, Option<Bytes>)> =
            accounts.iter().map(|(key, account)| (*key, Some(account.text().into()))).collect();
        self.store.write_many(&changes).await?;
        Ok(())
    }
}

/// What the store has of an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// The number of the last payment that counted.
    last: u64,
    pub(crate) total: u64,
}

impl Account {
    pub(crate) fn read(value: &[u8]) -> Result<Self, BoxError> {
        let (last, total) = pair(value)?;
        Ok(Self { last, total })
    }

    fn text(self) -> String {
        format!("{} {}", self.last, self.total)
    }
}

/// Two numbers with a space between them.
fn pair(text: &[u8]) -> Result<(u64, u64), BoxError> {
    let (first, second) =
        std::str::from_utf8(text)?.split_once(' ').ok_or("a number is missing")?;
    Ok((first.parse()?, second.parse()?))
}

/// A store whose first calls find no server.
pub(crate) struct AwayAtFirst<S> {
    store: S,
    calls_left: AtomicU32,
}

impl<S> AwayAtFirst<S> {
    pub(crate) fn new(store: S, calls: u32) -> Self {
        Self { store, calls_left: calls.into() }
    }

    fn reach(&self) -> kasper::Result<()> {
        let left = self
            .calls_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match left {
            Ok(_) => Err(Error::new(ErrorKind::Unavailable, "connection refused").retryable()),
            Err(_) => Ok(()),
        }
    }
}

impl<S: Store> Store for AwayAtFirst<S> {
    async fn get_many(&self, keys: &[&str]) -> kasper::Result<Vec<Option<Bytes>>> {
        self.reach()?;
        self.store.get_many(keys).await
    }

    async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> kasper::Result<()> {
        self.reach()?;
        self.store.write_many(changes).await
    }
}

const ACCOUNTS: u64 = 100;

pub(crate) fn is_malformed(number: u64, one_in: u64) -> bool {
    number % one_in == one_in / 2
}

/// The account and the text of the payment with this number.
pub(crate) fn payment(number: u64, one_in: u64) -> (String, String) {
    let account = format!("account-{:02}", number % ACCOUNTS);
    let place = number / ACCOUNTS + 1;
    let amount = number % 97 + 1;
    match is_malformed(number, one_in) {
        true => (account, format!("{place} {amount} EUR")),
        false => (account, format!("{place} {amount}")),
    }
}

/// What should come out.
pub(crate) fn totals(payments: u64, one_in: u64) -> BTreeMap<String, u64> {
    let mut totals = BTreeMap::new();
    for number in (0..payments).filter(|number| !is_malformed(*number, one_in)) {
        let (account, text) = payment(number, one_in);
        let amount = text.split_once(' ').and_then(|(_, amount)| amount.parse::<u64>().ok());
        *totals.entry(account).or_default() += amount.unwrap_or(0);
    }
    totals
}
