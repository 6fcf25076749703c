//! Made-up customers and orders, and what their join should be.

use std::collections::{BTreeMap, BTreeSet};

use kasper::BoxError;

use crate::common::random::Random;
use crate::join::{Order, Profile, Row};

/// A message of one of the two topics, of a customer by number.
pub(crate) enum Event {
    Profile(u64, Profile),
    Order(u64, Order),
}

/// What goes in, in order, and what should come out.
#[derive(Default)]
pub(crate) struct Data {
    pub(crate) events: Vec<Event>,
    pub(crate) customers: u64,
    pub(crate) profiles: u64,
    /// Orders that come before their customer's profile.
    pub(crate) early_orders: u64,
    /// Rows by the number of the order.
    pub(crate) rows: BTreeMap<u64, Row>,
    /// Orders whose profile never comes.
    pub(crate) unmatched: BTreeSet<u64>,
}

pub(crate) fn name(customer: u64) -> String {
    format!("customer-{customer}")
}

/// Of ten customers one never gets a profile; the others get it anywhere among the orders.
pub(crate) fn generate(seed: u64, orders: u64, customers: u64) -> Data {
    let mut random = Random::new(seed);
    // Before which order a customer's profile comes.
    let mut profiles: BTreeMap<u64, Vec<(u64, Profile)>> = BTreeMap::new();
    let mut known: BTreeMap<u64, (u64, Profile)> = BTreeMap::new();
    for customer in 0..customers {
        if random.below(10) > 0 {
            let country = random.choose(&["CH", "DK", "NZ", "PT"]).to_owned();
            let profile = Profile { name: format!("Name {}", random.below(1000)), country };
            let before = random.below(orders);
            profiles.entry(before).or_default().push((customer, profile.clone()));
            known.insert(customer, (before, profile));
        }
    }
    let mut data = Data { customers, profiles: known.len() as u64, ..Data::default() };
    for number in 0..orders {
        for (customer, profile) in profiles.remove(&number).into_iter().flatten() {
            data.events.push(Event::Profile(customer, profile));
        }
        let customer = random.below(customers);
        let order = Order { order: number, cents: random.below(100_000) };
        match known.get(&customer) {
            Some((before, profile)) => {
                data.early_orders += u64::from(number < *before);
                let (customer, profile) = (name(customer), profile.clone());
                data.rows.insert(number, Row { customer, order: order.clone(), profile });
            }
            None => {
                data.unmatched.insert(number);
            }
        }
        data.events.push(Event::Order(customer, order));
    }
    data
}

impl Data {
    /// Checks what came out. Returns how many rows came more than once: delivery is at least once.
    pub(crate) fn check(&self, rows: &[Row], unmatched: &BTreeSet<u64>) -> Result<u64, BoxError> {
        let mut joined = BTreeSet::new();
        for row in rows {
            let number = row.order.order;
            match self.rows.get(&number) {
                Some(expected) if expected == row => joined.insert(number),
                Some(expected) => {
                    return Err(format!("{row:?} was joined, expected {expected:?}").into());
                }
                None => return Err(format!("{row:?} was joined, expected nothing").into()),
            };
        }
        if let Some(missing) = self.rows.keys().find(|number| !joined.contains(number)) {
            return Err(format!("the order {missing} was not joined").into());
        }
        if let Some(wrong) = self.unmatched.symmetric_difference(unmatched).next() {
            return Err(format!("the order {wrong} waits and should not, or the reverse").into());
        }
        Ok((rows.len() - joined.len()) as u64)
    }
}
