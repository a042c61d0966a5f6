//! Drives a machine: the I/O thread, its turns, and the only clock read.

pub(crate) mod clock;
pub(crate) mod contained;
pub(crate) mod current;
pub(crate) mod driver;
mod engine;
pub(crate) mod errands;
pub(crate) mod guest;
mod later;
pub(crate) mod machine;
pub(crate) mod mailbox;
mod pace;
pub(crate) mod panics;
pub(crate) mod process;
mod reader;
pub(crate) mod thread;
pub(crate) mod turns;
pub(crate) mod watch;
