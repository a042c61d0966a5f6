//! Transports: how messages travel, and nothing of what they say. Outside this room nobody knows which one runs.

mod choice;
mod contract;
mod dealers;
mod endpoint;
mod error;
mod listen;
mod memory;
mod peers;
mod zeromq;

#[cfg(test)]
mod tests;

pub(crate) use self::{choice::transport_for, contract::RouterSocket, dealers::Dealers};
pub use self::{
    endpoint::{Endpoint, EndpointError, IntoEndpoints},
    error::TransportError,
};
