//! Transports: they carry messages and know nothing of their content. No code outside knows which one runs.

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
