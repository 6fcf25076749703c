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

/// In a process of its own, which has the variable.
#[tokio::test]
async fn the_environment_chooses_a_seed() {
    const NAME: &str = "story::the_environment_chooses_a_seed";
    if std::env::var_os("KASPER_PROVE_SEED").is_some() {
        assert_eq!(found(sums()).await.seed(), Some(5));
        return;
    }
    let mut test = std::process::Command::new(std::env::current_exe().unwrap());
    let output = test.args(["--exact", NAME]).env("KASPER_PROVE_SEED", "5").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
}
