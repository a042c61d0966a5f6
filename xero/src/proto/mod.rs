//! The protocol core: pure state machines, one for each role (`PROTOCOL.md`).
//!
//! Time and messages go in; transmits, timeouts and outputs come out. There is no socket, clock, task or thread in
//! here, so every failure can be played by the million from a seed, and a found failure replays exactly.
//!
//! Every machine has the same six methods: `handle_message`, `handle_heartbeats`, `handle_timeout`, `poll_transmit`,
//! `poll_timeout` and `poll_output`, beside `handle_*` for what else the network reports and verbs for what the application wants.
//!
//! **The drain rule.** After every mutation, poll the outputs until there are none. Transmits are polled once nothing
//! more is at hand, so that what a turn has produced towards one peer travels in one BATCH; whatever is still to be
//! sent goes before a disconnect that came as an output.

pub mod broker;
pub mod calls;
pub mod dispatch;
#[doc(hidden)]
pub mod fault;
pub mod frame;
pub mod hold;
mod ids;
mod link;
mod links;
pub mod liveness;
mod lives;
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
