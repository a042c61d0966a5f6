//! Which transport an endpoint asks for.

use super::{
    contract::Transport,
    endpoint::{Address, Endpoint},
    memory::Memory,
    zeromq::ZeroMq,
};

/// The transport that an endpoint's scheme asks for.
pub(crate) fn transport_for(endpoint: &Endpoint) -> &'static dyn Transport {
    match endpoint.address() {
        Address::Tcp { .. } | Address::Ipc { .. } => &ZeroMq,
        Address::Inproc { .. } => &Memory,
    }
}
