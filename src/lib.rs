//! Kasper
