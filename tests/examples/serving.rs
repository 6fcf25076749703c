//! `service`: customers, orders and totals, also when batches come again; summaries from ticks and at the end.

use kasper::codec::Json;
use kasper::multitenant::{MultiMapStore, MultiStore};
use kasper::store::TypedStore;
use kasper::testkit::{ProcessorTester, TestMessage};

use crate::service::{Customer, EnrichedOrder, Order, Orders, Topics, Total};

fn tester(store: &MultiMapStore) -> ProcessorTester {
    let (topics, store) = (Topics::new(""), store.clone());
    ProcessorTester::new(["customers", "orders"], move |start| {
        Orders::new(topics.clone(), start.partition(), &store)
    })
}

fn customer(key: &str, name: &str) -> TestMessage {
    TestMessage::new("customers").key(key).value(format!(r#"{{"name":"{name}"}}"#))
}

fn order(key: &str, order: u64, cents: u64) -> TestMessage {
    TestMessage::new("orders").key(key).value(format!(r#"{{"order":{order},"cents":{cents}}}"#))
}

/// The orders and cents that are counted for a tenant.
async fn total(store: &MultiMapStore, tenant: &str) -> (u64, u64) {
    let totals = TypedStore::new(store.tenant(tenant).unwrap(), Json);
    let total: Option<Total> = totals.get("total/0").await.unwrap();
    total.map_or((0, 0), |total| (total.orders, total.cents))
}

#[tokio::test]
async fn orders_meet_their_customers_and_are_counted_once() {
    let store = MultiMapStore::new();
    let mut tester = tester(&store);
    tester.push(customer("acme/1", "Ada"));
    tester.push(order("acme/1", 7, 100).header("via", "web").timestamp(5));
    tester.push(order("acme/1", 8, 50));
    tester.push(customer("umbrella/1", "Bob"));
    tester.push(order("umbrella/1", 9, 1));
    tester.run_all().await.unwrap();

    let sent = tester.take_outgoing();
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|message| message.topic == "enriched-orders"));
    let expected = EnrichedOrder {
        order: Order { order: 7, cents: 100 },
        customer: Customer { name: "Ada".to_owned() },
    };
    assert_eq!(sent[0].decode::<EnrichedOrder>(Json).unwrap(), Some(expected));
    assert_eq!((sent[0].key_text(), sent[0].header_text("via")), (Some("acme/1"), Some("web")));
    assert_eq!((total(&store, "acme").await, total(&store, "umbrella").await), ((2, 150), (1, 1)));

    tester.replay_cut(1).await.unwrap();
    assert_eq!(tester.take_outgoing().len(), 3, "sent again");
    assert_eq!((total(&store, "acme").await, total(&store, "umbrella").await), ((2, 150), (1, 1)));
}

#[tokio::test]
async fn what_cannot_be_processed_is_rejected_and_says_why() {
    let mut tester = tester(&MultiMapStore::new());
    tester.push(order("acme/1", 1, 1));
    tester.push(order("acme", 2, 1));
    tester.push(order("/1", 3, 1));
    tester.push(TestMessage::new("orders").key("acme/1").value("{"));
    tester.push(TestMessage::tombstone("orders", "acme/1"));
    tester.push(order(&format!("acme/{}", "1".repeat(200)), 4, 1));
    tester.push(order("acme/1", 5, u64::MAX));
    tester.push(TestMessage::new("customers").key("acme/2").value("7").header("a", "1"));
    tester.run_all().await.unwrap();
    let sent = tester.take_outgoing();
    assert!(sent.iter().all(|message| message.topic == "rejected-orders"));
    let mut reasons: Vec<_> = sent.iter().map(|m| m.header_text("reason").unwrap()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons.len(), 7, "{reasons:?}");
    let expected =
        ["there is no such customer", "TENANT/CUSTOMER", "name is empty", "longer than 200 bytes"];
    for reason in expected {
        assert!(reasons.iter().any(|text| text.contains(reason)), "{reason}: {reasons:?}");
    }
    let broken = sent.iter().find(|message| message.header_text("a").is_some()).unwrap();
    assert_eq!(broken.value_text(), Some("7"), "as it came");
}

/// Names that could be those of totals, or of nobody, are customers like others.
#[tokio::test]
async fn no_name_of_a_customer_stops_the_service() {
    let store = MultiMapStore::new();
    let mut tester = tester(&store);
    for key in ["acme/total/0", "acme/total-0", "acme/", "acme/customer/1"] {
        tester.push(order(key, 1, 1));
        tester.push(customer(key, "Ada"));
        tester.push(order(key, 2, 1));
        tester.run_all().await.unwrap();
    }
    assert_eq!(total(&store, "acme").await, (8, 8));
}

/// The total does not depend on what was known of the customer at the time.
#[tokio::test]
async fn an_order_whose_customer_comes_later_is_counted_once() {
    let store = MultiMapStore::new();
    let mut tester = tester(&store).max_batch_messages(2);
    tester.push(customer("acme/2", "Bob"));
    tester.push(order("acme/1", 1, 10));
    tester.push(order("acme/2", 2, 20));
    tester.push(customer("acme/1", "Ada"));
    tester.run_all().await.unwrap();
    assert_eq!(total(&store, "acme").await, (2, 30));
    tester.replay().await.unwrap();
    assert_eq!(total(&store, "acme").await, (2, 30));
}

#[tokio::test]
async fn a_customer_that_was_deleted_is_unknown() {
    let mut tester = tester(&MultiMapStore::new());
    tester.push(customer("acme/1", "Ada"));
    tester.run_all().await.unwrap();
    tester.push(TestMessage::tombstone("customers", "acme/1"));
    tester.push(order("acme/1", 1, 1));
    tester.run_all().await.unwrap();
    assert_eq!(tester.take_outgoing()[0].topic, "rejected-orders");
}

#[tokio::test]
async fn totals_that_have_changed_are_sent_with_ticks_and_at_the_end() {
    let mut tester = tester(&MultiMapStore::new());
    tester.push(customer("acme/1", "Ada"));
    tester.push(order("acme/1", 1, 10));
    tester.run_all().await.unwrap();
    tester.take_outgoing();
    tester.tick().await.unwrap();
    let sent = tester.take_outgoing();
    let total = sent[0].decode::<Total>(Json).unwrap().unwrap();
    assert_eq!((sent.len(), sent[0].topic.as_str()), (1, "order-summaries"));
    assert_eq!((sent[0].key_text(), total.orders, total.cents), (Some("acme/total/0"), 1, 10));
    tester.tick().await.unwrap();
    assert!(tester.outgoing().is_empty(), "nothing has changed");

    tester.push(order("acme/1", 2, 10));
    tester.run_all().await.unwrap();
    tester.take_outgoing();
    tester.revoke().await.unwrap();
    assert_eq!(tester.take_outgoing()[0].topic, "order-summaries");
}
