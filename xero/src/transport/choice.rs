//! Which transport an endpoint and a builder ask for.

#[cfg(any(test, feature = "zeromq"))]
use super::zeromq::ZeroMq;
use super::{
    contract::{Backend, DealerSocket, Limits, RouterSocket},
    endpoint::{Address, Endpoint},
    error::TransportError,
    memory::Memory,
    zmtp::Zmtp,
};

/// The implementation of ZeroMQ's protocol below `tcp://` and `ipc://` endpoints.
///
/// The wire is the same: peers need not agree. `inproc://` endpoints have one implementation of their own.
///
/// ```
/// # use xero::{Client, Transport};
/// let client = Client::builder().transport(Transport::Zmtp).connect("tcp://127.0.0.1:5550")?;
/// # Ok::<(), xero::ConnectError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// Xero's own ZMTP 3.1. It checks every limit before it reserves memory, so it bears hostile peers.
    Zmtp,
    /// The `zeromq` crate, for comparison. For trusted networks only: a few bytes of a stranger can end the process.
    #[cfg(any(test, feature = "zeromq"))]
    ZeroMq,
}

impl Default for Transport {
    /// [`Transport::Zmtp`].
    ///
    /// With the feature `zeromq`, the environment variable `XERO_TRANSPORT=zeromq` chooses `Transport::ZeroMq`: so
    /// unchanged programs run over it.
    fn default() -> Self {
        #[cfg(any(test, feature = "zeromq"))]
        if std::env::var_os("XERO_TRANSPORT").is_some_and(|name| name == "zeromq") {
            return Self::ZeroMq;
        }
        Self::Zmtp
    }
}

/// Makes sockets: by one transport, within the limits of their owner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sockets {
    transport: Transport,
    limits: Limits,
}

impl Sockets {
    pub(crate) fn new(transport: Transport, limits: Limits) -> Self {
        Self { transport, limits }
    }

    /// Binds a ROUTER-like socket.
    pub(crate) async fn bind(&self, endpoint: &Endpoint) -> Result<Box<dyn RouterSocket>, TransportError> {
        self.backend(endpoint).bind(endpoint, &self.limits).await
    }

    /// Connects a DEALER-like socket; gives up after a second or so.
    pub(crate) async fn dial(&self, endpoint: &Endpoint) -> Result<Box<dyn DealerSocket>, TransportError> {
        self.backend(endpoint).dial(endpoint, &self.limits).await
    }

    fn backend(&self, endpoint: &Endpoint) -> &'static dyn Backend {
        match (endpoint.address(), self.transport) {
            (Address::Inproc { .. }, _) => &Memory,
            (_, Transport::Zmtp) => &Zmtp,
            #[cfg(any(test, feature = "zeromq"))]
            (_, Transport::ZeroMq) => &ZeroMq,
        }
    }
}
