//! What is found is told, and can be seen again.

use super::{found, sums};

#[tokio::test]
async fn the_story_is_short_and_says_how_to_see_it_again() {
    let found = found(sums()).await;
    let seed = found.seed().unwrap();
    let story = format!(
        r#"not idempotent: `ann`
  of 20 messages these are enough:
    TestMessage {{ topic: "orders", offset: 0, key: "ann", value: "1" }}
  what happens:
    1. batch orders 0..=0; the process dies before the offsets are committed
    2. batch orders 0..=0 again
  expected `ann` = "1", found "2"
  it reads something else after a replay: batch orders 0..=0 read `ann` = "1" when its messages came again, and nothing at first
  to see it again: `.seed({seed})`, or KASPER_PROVE_SEED={seed}"#
    );
    assert_eq!(found.to_string(), story);
    assert_eq!(format!("{found:?}"), story);
}

#[tokio::test]
async fn a_seed_tells_the_same_again() {
    let first = found(sums()).await;
    let again = found(sums().seed(first.seed().unwrap())).await;
    assert_eq!(first.to_string(), again.to_string());
}
