//! Our own containers to kill, freeze and cut off, and their logs of the calls.
//!
//! `tests/containers/docker-compose.yml` describes them; each test has a project of its own, so that several can run at once.

pub mod container;
pub mod engine;
pub mod stack;

use std::path::{Path, PathBuf};

/// The repository's folder.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is within it").to_owned()
}
