//! ROUTER and DEALER over TCP and Unix sockets, by a ZMTP 3.1 of our own.
//!
//! `engine/` knows the protocol and does no I/O; the other files move its bytes.

mod accept;
mod connection;
mod dealer;
mod dial;
mod engine;
mod linger;
mod ready;
mod router;
mod stream;
mod unfinished;

use async_trait::async_trait;

use self::{dealer::Dealer, router::Router};
use super::{
    contract::{Backend, DealerSocket, Limits, RouterSocket},
    endpoint::Endpoint,
    error::TransportError,
    listen::{self, Bound},
};

/// ZMTP over TCP and Unix sockets.
#[derive(Debug)]
pub(crate) struct Zmtp;

#[async_trait]
impl Backend for Zmtp {
    async fn bind(&self, endpoint: &Endpoint, limits: &Limits) -> Result<Box<dyn RouterSocket>, TransportError> {
        let Bound { listener, endpoint: bound, closer } = listen::bind(endpoint).await?;
        let failed = |source| TransportError::Io { endpoint: endpoint.clone(), source };
        let listener = stream::Listener::new(listener).map_err(failed)?;
        Ok(Box::new(Router::new(bound.to_string(), listener, closer, limits)))
    }

    async fn dial(&self, endpoint: &Endpoint, limits: &Limits) -> Result<Box<dyn DealerSocket>, TransportError> {
        if let Some(reason) = endpoint.undialable() {
            return Err(TransportError::NotDialable { endpoint: endpoint.clone(), reason });
        }
        #[cfg(not(windows))]
        let _reserved = listen::reserve(endpoint).await;
        let opened = dial::dial(endpoint, connection::engine_limits(limits)).await?;
        Ok(Box::new(Dealer::new(opened, limits)))
    }
}

/// The most bytes that wait to be written to one peer: a peer with more has stopped reading.
///
/// Windows keep a healthy peer's queue to a payload and a window of 64 MiB, so this is never reached by one that reads.
/// A message that is larger by itself still goes to a peer whose queue is empty.
fn queue_bytes_max(limits: &Limits) -> usize {
    limits.payload_bytes_max.saturating_mul(4).max(256 << 20)
}

/// A poll that completes no message ends once it has read this much: that takes some hundreds of microseconds, in which
/// nothing is written.
const READ_BYTES_MAX: usize = 1 << 20;
