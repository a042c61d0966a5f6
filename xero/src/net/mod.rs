//! Scaffolding of the transport branch; replaced at the merge.
// Nothing but the tests uses the transports before the driver is there.
#![allow(dead_code)]

pub(crate) mod endpoint;
mod listen;
mod memory;
mod peers;
pub(crate) mod transport;
mod zmq;

#[cfg(test)]
mod tests;
