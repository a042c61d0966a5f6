//! Transports: they carry messages and know nothing of their content. No code outside knows which one runs.

mod choice;
mod contract;
mod dealers;
mod endpoint;
mod error;
mod home;
mod listen;
mod memory;
#[cfg(any(test, feature = "zeromq"))]
mod peers;
#[cfg(any(test, feature = "zeromq"))]
mod zeromq;
mod zmtp;

#[cfg(test)]
mod tests;

pub(crate) use self::{choice::Sockets, contract::RouterSocket, dealers::Dealers};
pub use self::{
    choice::Transport,
    endpoint::{Endpoint, EndpointError, IntoEndpoints},
    error::TransportError,
};
