//! Conversations between machines, over a simulated network: time by arithmetic, every fault on command.

mod network;
mod node;
mod pair;

mod calls;
