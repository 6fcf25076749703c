//! The examples' processors are proved: right in every schedule, and where one depends on something, that is shown.

use kasper::StartContext;
use kasper::codec::{Encode, Json};
use kasper::multitenant::AnyMultiStore;
use kasper::store::{AnyStore, TypedStore};
use kasper::testkit::{Finding, ProofStore, Prover, TestMessage, prove};

use crate::dead_letters::Payments;
use crate::enrich::Enrich;
use crate::join::{self, Join};
use crate::join_data::{Event, generate, name};
use crate::own_store_sum_up::SumUp;
use crate::service::{Orders, Topics};
use crate::tally::{self, Tally};
use crate::word_count::WordCount;

#[tokio::test]
async fn word_count() {
    let lines =
        ["to be or not to be", "that is the question", "", "or not", "be", "to to to", "is"];
    let lines = lines.map(|line| TestMessage::new("text").value(line));
    let proof = prove(["text"], lines, |store: ProofStore| {
        let counts = TypedStore::new(AnyStore::new(store), Json);
        move |_: &StartContext| WordCount::new("run", &counts)
    });
    proof.check().await.unwrap();
}

/// Without malformed payments: what is rejected is not the processor's business.
#[tokio::test]
async fn dead_letters() {
    let payments = (0..20).map(|number| {
        let place = number / 3 + 1;
        let payment = TestMessage::new("payments").key(format!("account-{}", number % 3));
        payment.value(format!("{place} {}", number * 7 + 1))
    });
    let proof = prove(["payments"], payments, |store: ProofStore| {
        let store = std::sync::Arc::new(store);
        move |_: &StartContext| Payments { store: store.clone() }
    });
    proof.check().await.unwrap();
}

fn prove_join(inputs: Vec<TestMessage>) -> Prover {
    prove(["profiles", "orders"], inputs, |store: ProofStore| {
        let customers = TypedStore::new(AnyStore::new(store), Json);
        move |_: &StartContext| Join {
            run: "run".to_owned(),
            topics: join::Topics {
                profiles: "profiles".to_owned(),
                orders: "orders".to_owned(),
                joined: "joined".to_owned(),
            },
            customers: customers.clone(),
        }
    })
}

fn joined(event: &Event) -> TestMessage {
    let (topic, customer, value) = match event {
        Event::Profile(customer, profile) => ("profiles", customer, Json.encode(profile)),
        Event::Order(customer, order) => ("orders", customer, Json.encode(order)),
    };
    TestMessage::new(topic).key(name(*customer)).value(value.unwrap())
}

/// Each customer has one profile, which comes anywhere among the orders.
#[tokio::test]
async fn join() {
    let data = generate(1, 25, 6);
    assert!(data.early_orders > 3 && !data.rows.is_empty());
    let inputs = data.events.iter().map(joined).collect();
    prove_join(inputs).any_topic_order().check().await.unwrap();
}

/// In a batch, profiles come before orders. So an order meets a newer profile that comes in the same batch, and not one
/// that comes in the next: the example is for profiles that do not change.
#[tokio::test]
async fn which_profile_an_order_meets_depends_on_the_batch() {
    let profile = |name: &str| {
        let profile = format!(r#"{{"name":"{name}","country":"CH"}}"#);
        TestMessage::new("profiles").key("a").value(profile)
    };
    let order = TestMessage::new("orders").key("a").value(r#"{"order":1,"cents":5}"#);
    let inputs = vec![profile("Ada"), order, profile("Ada Lovelace")];
    let found = prove_join(inputs).check().await.unwrap_err();
    assert_eq!(found.finding(), Finding::DependsOnBatches, "{found}");
}

#[tokio::test]
async fn multitenant() {
    let event = |number: usize| {
        let (tenant, kind) = (format!("tenant-{}", number % 3), format!("kind-{}", number % 2));
        TestMessage::new("events").value(Json.encode(&tally::Event { tenant, kind }).unwrap())
    };
    let inputs: Vec<TestMessage> = (0..16).map(event).collect();
    let proof = prove(["events"], inputs, |store: ProofStore| {
        let counts = TypedStore::new(AnyMultiStore::new(store), Json);
        move |_: &StartContext| Tally { run: "run".to_owned(), counts: counts.clone() }
    });
    proof.check().await.unwrap();
}

#[tokio::test]
async fn enrich() {
    let lines = ["GET /shop/cart 200 35", "nonsense", "POST /pay 500 700", "GET / 200 1"];
    let lines = lines.map(|line| TestMessage::new("lines").value(line).timestamp(7));
    let proof = prove(["lines"], lines, |_| {
        |_: &StartContext| Enrich {
            enriched: "enriched".to_owned(),
            rejected: "rejected".to_owned(),
        }
    });
    proof.check().await.unwrap();
}

#[tokio::test]
async fn own_store() {
    let order = |number: usize| {
        TestMessage::new("orders").key(format!("{}", number % 3)).value(format!("{number}"))
    };
    let inputs: Vec<TestMessage> = (0..12).map(order).collect();
    let proof = prove(["orders"], inputs, |store: ProofStore| {
        move |_: &StartContext| SumUp::new("run", store.clone())
    });
    proof.check().await.unwrap();
}

fn customer(key: &str, name: &str) -> TestMessage {
    TestMessage::new("customers").key(key).value(format!(r#"{{"name":"{name}"}}"#))
}

fn order(key: &str, order: u64) -> TestMessage {
    TestMessage::new("orders").key(key).value(format!(r#"{{"order":{order},"cents":{order}}}"#))
}

fn prove_service(inputs: Vec<TestMessage>) -> Prover {
    let proof = prove(["customers", "orders"], inputs, |store: ProofStore| {
        move |start: &StartContext| Orders::new(Topics::new(""), start.partition(), &store)
    });
    // After a crash they may be late until the tenant's next order, as the example says.
    proof.ignored("order-summaries").ticks()
}

#[tokio::test]
async fn service() {
    let mut inputs = vec![
        customer("acme/1", "Ada"),
        customer("acme/2", "Bob"),
        customer("umbrella/1", "Cyd"),
        order("acme", 1),
        TestMessage::new("orders").key("acme/1").value("{"),
    ];
    inputs.extend((2..6).map(|number| order("acme/1", number)));
    inputs.extend((6..9).map(|number| order("umbrella/1", number)));
    inputs.push(order("acme/3", 9));
    inputs.push(order("acme/2", 10));
    prove_service(inputs).check().await.unwrap();
}

/// In a batch, customers come before orders, and so they have to come in the topics, as the example says.
#[tokio::test]
async fn whether_an_order_finds_a_customer_who_comes_later_depends_on_the_batch() {
    let inputs = vec![order("acme/1", 1), customer("acme/1", "Ada")];
    let found = prove_service(inputs).check().await.unwrap_err();
    assert_eq!(found.finding(), Finding::DependsOnBatches, "{found}");
}
