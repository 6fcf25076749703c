//! The seeded schedules see the faults that they are there for: each is put into the library on
//! purpose, and some seed must fail.

use super::storm;
use crate::broker::sim::mutation::{self, Mutation};

const SEEDS: u64 = 100;

/// The seeds that fail, and how the first does.
#[track_caller]
fn assert_seen(mutation: Mutation, expected: &str) {
    mutation::set(Some(mutation));
    let outcomes = (0..SEEDS).map(|seed| (seed, storm::run(seed, false).violations));
    let failed: Vec<_> = outcomes.filter(|(_, violations)| !violations.is_empty()).collect();
    mutation::set(None);
    let Some((seed, violations)) = failed.first() else { panic!("no seed sees {mutation:?}") };
    let count = failed.len();
    println!("{mutation:?}: {count} of {SEEDS} seeds see it, first {seed}: {}", violations[0]);
    let mut all = failed.iter().flat_map(|(_, violations)| violations);
    assert!(all.any(|violation| violation.contains(expected)), "{violations:#?}");
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
