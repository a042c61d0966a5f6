//! Scaffolding of the transport branch; replaced at the merge.

#[cfg(feature = "net")]
mod net;
mod proto;

#[cfg(feature = "net")]
pub use net::{
    endpoint::{Endpoint, EndpointError},
    transport::TransportError,
};
