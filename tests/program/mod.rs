//! The example programs, as they are built beside the tests.
#![allow(unreachable_pub, reason = "part of several test binaries")]

use std::path::PathBuf;

/// An example program. `cargo test` and `cargo xtask test` build them before the tests.
pub fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().with_file_name("examples").join(name);
    assert!(program.exists(), "build it first: cargo build --example {name}");
    program
}
