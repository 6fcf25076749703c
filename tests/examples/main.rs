//! The examples: their processors with batches that come again, and each program to its end, without a
//! server.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../examples/common/mod.rs"]
mod common;
#[allow(dead_code, reason = "the store that is away at first, and the data, are the program's")]
#[path = "../../examples/dead_letters/payments.rs"]
mod dead_letters;
#[path = "../../examples/enrich/enrich.rs"]
mod enrich;
#[path = "../../examples/enrich/data.rs"]
mod enrich_data;
#[path = "../../examples/join/join.rs"]
mod join;
#[path = "../../examples/join/data.rs"]
#[allow(dead_code, reason = "what only the program prints")]
mod join_data;
#[path = "../../examples/own_store/directory.rs"]
mod own_store_directory;
#[path = "../../examples/own_store/sum_up.rs"]
#[allow(dead_code, reason = "what only the program reads")]
mod own_store_sum_up;
#[path = "../program/mod.rs"]
mod program;
#[path = "../../examples/service/job.rs"]
mod service;
#[path = "../../examples/multitenant/tally.rs"]
mod tally;
#[path = "../../examples/word_count/text.rs"]
#[allow(dead_code, clippy::print_stdout, reason = "what only the program prints")]
mod text;
#[path = "../../examples/word_count/count.rs"]
#[allow(dead_code, reason = "what only the program prints")]
mod word_count;

mod enriching;
mod joining;
mod own_store;
mod programs;
mod proving;
mod serving;
mod tallying;
