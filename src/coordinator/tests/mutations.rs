//! The seeded schedules see the faults that they are there for: each is put into the library on
//! purpose, and some seed must fail.

use super::storm;
use crate::broker::sim::mutation::{self, Mutation};

/// The first seed that fails, and how.
fn first_failure(mutation: Mutation, seeds: u64) -> Option<(u64, Vec<String>)> {
    mutation::set(Some(mutation));
    let mut outcomes = (0..seeds).map(|seed| (seed, storm::run(seed, false).violations));
    let found = outcomes.find(|(_, violations)| !violations.is_empty());
    mutation::set(None);
    found
}

#[track_caller]
fn assert_seen(mutation: Mutation, expected: &str) {
    let Some((seed, violations)) = first_failure(mutation, 400) else {
        panic!("no seed sees {mutation:?}");
    };
    println!("{mutation:?} is seen by seed {seed}: {}", violations[0]);
    let seen = violations.iter().any(|violation| violation.contains(expected));
    assert!(seen, "{violations:#?}");
}

#[test]
fn recording_before_the_acks_is_seen() {
    assert_seen(Mutation::CommitBeforeAcks, "is unfinished");
}

#[test]
fn a_buffer_kept_over_a_revocation_is_seen() {
    assert_seen(Mutation::KeepBuffer, "which is not its own");
}

#[test]
fn an_ignored_delivery_failure_is_seen() {
    assert_seen(Mutation::IgnoreDeliveryFailure, "is unfinished");
}

#[test]
fn an_answer_before_the_commit_is_seen() {
    assert_seen(Mutation::AnswerBeforeCommit, "after it gave it up");
}

#[test]
fn recording_what_was_given_back_is_seen() {
    assert_seen(Mutation::CommitWithoutOwnership, "after it gave it up");
}
