//! The protocol core: pure state machines, one for each role (`PROTOCOL.md`).
//!
//! Time and messages go in; transmits, timeouts and outputs come out. The core has no socket, clock, task or thread, so
//! seeds can play every failure, by the million, and a found failure replays exactly.
//!
//! Every machine has the same six methods: `handle_message`, `handle_heartbeats`, `handle_timeout`, `poll_transmit`,
//! `poll_timeout` and `poll_output`. Other `handle_*` methods take further reports of the network, and verbs take the
//! application's commands. `recycle` takes back a sent transmit, so that a call allocates nothing here.
//!
//! **The drain rule.** After every mutation, poll the outputs until there are none. Poll the transmits once no more
//! input is at hand, so that the messages of a turn to one peer travel in one BATCH. Send all of them before a
//! disconnect that was an output.

mod announcements;
pub mod broker;
pub mod calls;
mod dials;
pub mod dispatch;
mod exits;
#[doc(hidden)]
pub mod fault;
mod few;
pub mod frame;
pub mod hold;
pub(crate) mod ids;
mod introduction;
mod link;
mod links;
pub mod liveness;
mod lives;
pub(crate) mod map;
pub mod message;
pub mod outbox;
pub mod registry;
pub mod retry;
mod slab;
pub mod timer;
mod window;
pub mod worker;

#[cfg(test)]
mod tests;
