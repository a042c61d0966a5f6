//! Harness of the integration tests: a service to call, processes to kill, raw peers that misbehave, and waiting.

pub mod chaos;
pub mod command_line;
pub mod containers;
pub mod link;
pub mod load;
pub mod process;
pub mod program;
pub mod raw;
pub mod scene;
pub mod service;
pub mod soak;

/// The Rust code in README, compiled and run as a documentation test.
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;
