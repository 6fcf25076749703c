//! How large batches are.

use super::{Obedient, push_orders};

/// The sizes of the batches that 9,000 messages make, of which each thousandth has this value.
async fn sizes(value: &str) -> Vec<usize> {
    let obedient = Obedient::default();
    let mut tester = obedient.tester();
    let values: Vec<&str> = (0..9_000).map(|n| if n % 1000 == 0 { value } else { "-" }).collect();
    push_orders(&mut tester, &values);
    tester.run_all().await.unwrap();
    let seen = obedient.seen.lock().unwrap();
    seen.iter().map(Vec::len).collect()
}

#[tokio::test(start_paused = true)]
async fn a_process_that_never_waits_gets_small_batches() {
    assert_eq!(sizes("-").await, [1000; 9]);
}

#[tokio::test(start_paused = true)]
async fn batches_grow_while_process_waits() {
    assert_eq!(sizes("sleep").await, [1000, 2000, 4000, 2000]);
}
