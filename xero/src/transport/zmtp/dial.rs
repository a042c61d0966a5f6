//! Connects to a ROUTER: address, connection, handshake.

use std::{io, net::SocketAddr};

use bytes::Bytes;
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    connection::{Connection, HandshakeError, Opened},
    engine::{Limits, Role, Violation},
    stream::Stream,
};
use crate::transport::{
    contract::DIAL_TIMEOUT,
    endpoint::{Address, Endpoint},
    error::TransportError,
    listen,
};

/// Connects to an endpoint and makes the handshake, in [`DIAL_TIMEOUT`].
pub(super) async fn dial(endpoint: &Endpoint, limits: Limits) -> Result<Opened, TransportError> {
    let mut is_connected = false;
    let dialed = timeout(DIAL_TIMEOUT, async {
        let stream = connect(endpoint).await?;
        is_connected = true;
        let opened = Connection::open(stream, Role::Dealer, fresh_identity(), limits).await;
        opened.map_err(|error| of_handshake(endpoint, error))
    });
    let dialed = dialed.await;
    let (endpoint, after) = (endpoint.clone(), DIAL_TIMEOUT);
    dialed.unwrap_or_else(|_| {
        Err(match is_connected {
            true => TransportError::Silent { endpoint, after },
            false => TransportError::TimedOut { endpoint, after },
        })
    })
}

async fn connect(endpoint: &Endpoint) -> Result<Stream, TransportError> {
    let failed = |source| TransportError::of_dial(endpoint, source);
    match endpoint.address() {
        Address::Tcp { host, port } => {
            let addresses = listen::candidates(endpoint, host, *port).await?;
            connect_first(&addresses).await.map_err(failed)
        }
        #[cfg(unix)]
        Address::Ipc { path } => tokio::net::UnixStream::connect(path).await.map(Stream::Unix).map_err(failed),
        #[cfg(not(unix))]
        Address::Ipc { .. } => Err(failed(io::ErrorKind::Unsupported.into())),
        Address::Inproc { .. } => Err(failed(io::ErrorKind::Unsupported.into())),
    }
}

async fn connect_first(addresses: &[SocketAddr]) -> io::Result<Stream> {
    let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in addresses {
        result = Stream::connect_tcp(*address).await;
        if result.is_ok() {
            break;
        }
    }
    result
}

fn of_handshake(endpoint: &Endpoint, error: HandshakeError) -> TransportError {
    let endpoint = endpoint.clone();
    match error {
        HandshakeError::Violation(Violation::SelfConnected) => TransportError::SelfConnected { endpoint },
        HandshakeError::Violation(violation) => {
            TransportError::WrongProtocol { endpoint, reason: violation.to_string() }
        }
        HandshakeError::Io(source) => TransportError::Unreachable { endpoint, source },
    }
}

/// An identity that nobody else has: a ROUTER of another implementation mistakes a known one for an earlier life.
///
/// ROUTERs keep identities that start with a zero for themselves.
fn fresh_identity() -> Bytes {
    let mut bytes = Uuid::new_v4().into_bytes();
    bytes[0] |= 1;
    Bytes::copy_from_slice(&bytes)
}
