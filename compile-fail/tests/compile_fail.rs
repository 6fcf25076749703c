//! What must not compile, and what the compiler says then: its messages are a part of the interface.
//!
//! The messages in `tests/ui/*.stderr` are those of the Rust version that `Cargo.toml` names. After a
//! change that is meant: `TRYBUILD=overwrite cargo test -p compile-fail`.

#[test]
fn misuse_does_not_compile_and_the_message_helps() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}
