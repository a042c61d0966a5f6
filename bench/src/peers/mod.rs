//! The implementations of the echo, a file for each peer.

pub(crate) mod bare;
pub(crate) mod jsonrpsee;
pub(crate) mod tarpc;
pub(crate) mod tonic;
pub(crate) mod xero;
pub(crate) mod zeromq;
