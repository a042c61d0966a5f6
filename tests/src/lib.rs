//! Harness of the integration tests.

/// The Rust code in README, compiled and run as a documentation test.
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;
