//! Conversations between machines, over a simulated network: time by arithmetic, every fault on command.

mod network;
mod node;
mod pair;

mod calls;
mod cancel;
mod credits;
mod drain;
mod errors;
mod foreign;
mod heartbeats;
mod leases;
mod partials;
mod registration;
mod restart;
mod retry;
mod several;
mod turns;
mod walk;
