//! `join`: every order meets its profile, whatever comes again.

use std::collections::BTreeSet;

use kasper::ErrorKind;
use kasper::codec::{Encode, Json};
use kasper::store::{AnyStore, MapStore, TypedStore};
use kasper::testkit::{ProcessorTester, TestMessage};

use crate::join::{Customers, Join, Order, Profile, Row, Topics, key};
use crate::join_data::{Data, Event, generate, name};

/// One partition, and what its processor keeps.
struct Partition {
    tester: ProcessorTester,
    customers: Customers,
}

impl Partition {
    fn new(batch: usize) -> Self {
        let customers: Customers = TypedStore::new(AnyStore::new(MapStore::new()), Json);
        let topic = str::to_owned;
        let topics = Topics {
            profiles: topic("profiles"),
            orders: topic("orders"),
            joined: topic("joined"),
        };
        let shared = customers.clone();
        let tester = ProcessorTester::new(["profiles", "orders"], move |_| Join {
            run: "run".to_owned(),
            topics: topics.clone(),
            customers: shared.clone(),
        });
        Self { tester: tester.max_batch_messages(batch), customers }
    }

    fn push(&mut self, event: &Event) {
        let (topic, customer, value) = match event {
            Event::Profile(customer, profile) => ("profiles", customer, Json.encode(profile)),
            Event::Order(customer, order) => ("orders", customer, Json.encode(order)),
        };
        self.tester.push(TestMessage::new(topic).key(name(*customer)).value(value.unwrap()));
    }

    fn rows(&self) -> Vec<Row> {
        let outgoing = self.tester.outgoing();
        outgoing.iter().map(|row| row.decode(Json).unwrap().unwrap()).collect()
    }

    async fn waiting(&self, customers: u64) -> BTreeSet<u64> {
        let mut waiting = BTreeSet::new();
        for number in 0..customers {
            let customer = self.customers.get(&key("run", 0, &name(number))).await.unwrap();
            waiting.extend(
                customer.into_iter().flat_map(|customer| customer.waiting).map(|order| order.order),
            );
        }
        waiting
    }
}

fn order(number: u64) -> Event {
    Event::Order(7, Order { order: number, cents: 100 })
}

fn profile() -> Event {
    Event::Profile(7, Profile { name: "Ada".to_owned(), country: "CH".to_owned() })
}

#[tokio::test]
async fn every_order_meets_its_profile_when_batches_come_again_cut_differently() {
    for batch in [1, 7, 1000] {
        let data = generate(batch as u64, 400, 40);
        assert!(data.early_orders > 50 && !data.unmatched.is_empty(), "nothing waits");
        let mut partition = Partition::new(batch);
        data.events.iter().for_each(|event| partition.push(event));
        partition.tester.run_all().await.unwrap();
        let again = data.check(&partition.rows(), &partition.waiting(40).await).unwrap();
        assert_eq!(again, 0);
        for cut in [3, 50, 1000] {
            partition.tester.replay_cut(cut).await.unwrap();
            data.check(&partition.rows(), &partition.waiting(40).await).unwrap();
        }
    }
}

/// The order's batch is finished and comes no more; the row goes out with the profile's batch, and is
/// refused. An order that was forgotten before that would be lost.
#[tokio::test]
async fn an_order_that_waited_is_kept_until_its_row_is_acknowledged() {
    let mut partition = Partition::new(10);
    partition.push(&order(1));
    partition.tester.run_batch().await.unwrap();
    assert_eq!(partition.tester.committed("orders").map(|next| next.get()), Some(1));

    partition.push(&profile());
    partition.tester.fail_delivery("joined", "too large");
    let error = partition.tester.run_batch().await.unwrap_err();
    assert!(error.find::<kasper::Error>().is_some_and(|e| e.kind() == ErrorKind::Delivery));
    assert_eq!(partition.waiting(8).await, [1].into());
    assert!(partition.rows().is_empty());

    partition.tester.assign();
    partition.tester.run_all().await.unwrap();
    assert!(partition.waiting(8).await.is_empty());
    assert_eq!(partition.rows().len(), 1);
    assert_eq!(partition.rows()[0].profile.name, "Ada");
}

#[tokio::test]
async fn an_order_without_a_profile_waits_once_however_often_it_comes() {
    let mut partition = Partition::new(10);
    partition.push(&order(1));
    partition.push(&order(2));
    partition.tester.run_all().await.unwrap();
    partition.tester.replay().await.unwrap();
    assert_eq!(partition.waiting(8).await, [1, 2].into());
    partition.push(&profile());
    partition.tester.run_all().await.unwrap();
    let orders: Vec<u64> = partition.rows().iter().map(|row| row.order.order).collect();
    assert_eq!(orders, [1, 2]);
}

#[test]
fn the_example_sees_what_is_wrong() {
    let data: Data = generate(1, 100, 20);
    let rows: Vec<Row> = data.rows.values().cloned().collect();
    assert_eq!(data.check(&rows, &data.unmatched).unwrap(), 0);
    assert!(data.check(&rows[1..], &data.unmatched).is_err(), "a row is missing");
    assert!(data.check(&rows, &BTreeSet::new()).is_err(), "the unmatched are missing");
    let mut wrong = rows.clone();
    wrong[0].profile.name.push('x');
    assert!(data.check(&wrong, &data.unmatched).is_err(), "a row is wrong");
    let twice = [&rows[..], &rows[..1]].concat();
    assert_eq!(data.check(&twice, &data.unmatched).unwrap(), 1);
}
