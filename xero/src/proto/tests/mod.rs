//! Conversations between machines, over a simulated network: time by arithmetic, every fault on command.

mod bench;
mod client;
mod network;
mod node;
mod pair;
pub(super) use pair::{introduction, start};

mod broker;
mod broker_leaving;
mod broker_offers;
mod calls;
mod cancel;
mod client_leaving;
mod credits;
mod dialing;
mod drain;
mod edges;
mod errors;
mod foreign;
mod ghosts;
mod heartbeats;
mod held;
mod hoarders;
mod index;
mod leases;
mod links;
mod offer_changes;
mod pace;
mod partials;
mod registration;
mod restart;
mod retry;
mod several;
mod shares;
mod turns;
mod walk;
mod windows;
