//! The seeded schedules see the faults that they are there for: each is put into the library on
//! purpose, and some seed must fail.

use super::storm;
use crate::faults::{self, Fault};

/// Of a thousand seeds, 7 see the rarest of these faults and 670 the most frequent.
const SEEDS: u64 = 1000;

#[track_caller]
fn assert_seen(fault: Fault, expected: &str) {
    faults::set(Some(fault));
    let mut outcomes = (0..SEEDS).map(|seed| (seed, storm::run(seed, false).violations));
    let seen = outcomes.find(|(_, violations)| violations.iter().any(|v| v.contains(expected)));
    faults::set(None);
    let Some((seed, violations)) = seen else { panic!("no seed sees {fault:?}") };
    println!("{fault:?} is seen by seed {seed}: {violations:#?}");
}

#[test]
fn committing_before_the_acks_is_seen() {
    assert_seen(Fault::CommitBeforeAcks, "is unfinished");
}

#[test]
fn a_buffer_kept_over_a_revocation_is_seen() {
    assert_seen(Fault::KeepBuffer, "which is not its own");
}

#[test]
fn an_ignored_delivery_failure_is_seen() {
    assert_seen(Fault::IgnoreDeliveryFailure, "is unfinished");
}

#[test]
fn a_commit_beside_another_is_seen() {
    assert_seen(Fault::CommitBesideAnother, "committed, it was");
}

#[test]
fn committing_what_was_given_back_is_seen() {
    assert_seen(Fault::CommitWithoutOwnership, "after it gave it up");
}

#[test]
fn a_dropped_queue_taken_for_an_empty_one_is_seen() {
    assert_seen(Fault::BelieveEmptyQueue, "");
}

#[test]
fn what_was_replaced_and_is_kept_is_seen() {
    assert_seen(Fault::KeepReplaced, "");
}

#[test]
fn a_tick_whose_acks_are_not_waited_for_is_seen() {
    assert_seen(Fault::ForgetTicks, "is unfinished");
}

#[test]
fn closing_after_a_failure_is_seen() {
    assert_seen(Fault::CloseAfterFailure, "before all calls are finished");
}

#[test]
fn letters_whose_acks_are_not_waited_for_are_seen() {
    assert_seen(Fault::ForgetLetters, "is unfinished");
}

#[test]
fn rejecting_what_may_go_away_by_itself_is_seen() {
    assert_seen(Fault::RejectRetryable, "a letter that it should not have");
}

#[test]
fn finishing_a_part_behind_one_that_waits_is_seen() {
    assert_seen(Fault::FinishBeforeLetters, "is unfinished");
}
