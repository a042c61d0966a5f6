//! tarpc: bincode over TCP.
//!
//! Its documentation says for speed: a client's `max_in_flight_requests` may be very large where the caller bounds the
//! calls, and a `pending_request_buffer` that is too small costs throughput. The server spawns each request, as in its
//! README. Both sides set `TCP_NODELAY`, which tarpc leaves to its user.

use bytes::Bytes;
use futures_util::StreamExt;
use tarpc::{
    client, context, serde_transport,
    server::{self, Channel},
    tokio_serde::formats::Bincode,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Decoder, LengthDelimitedCodec};

use crate::{
    load::{Caller, Failure, Lanes, check},
    session::{Session, ready},
};

#[tarpc::service]
trait Echo {
    async fn text(payload: String) -> String;
    async fn bytes(payload: Bytes) -> Bytes;
}

#[derive(Clone)]
struct Mirror;

impl Echo for Mirror {
    async fn text(self, _: context::Context, payload: String) -> String {
        payload
    }

    async fn bytes(self, _: context::Context, payload: Bytes) -> Bytes {
        payload
    }
}

/// Serves one connection.
pub(crate) async fn server() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    ready(&[&listener.local_addr()?.to_string()])?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let transport = serde_transport::new(LengthDelimitedCodec::new().framed(stream), Bincode::default());
    let config = server::Config { pending_response_buffer: IN_FLIGHT_MAX };
    let requests = server::BaseChannel::new(config, transport).execute(Mirror.serve());
    requests.for_each(|request| async { drop(tokio::spawn(request)) }).await;
    Ok(())
}

/// Calls over one connection.
pub(crate) async fn client(session: Session) -> Result<(), Failure> {
    let stream = TcpStream::connect(&session.endpoint).await?;
    stream.set_nodelay(true)?;
    let transport = serde_transport::new(LengthDelimitedCodec::new().framed(stream), Bincode::default());
    let mut config = client::Config::default();
    config.max_in_flight_requests = IN_FLIGHT_MAX;
    config.pending_request_buffer = IN_FLIGHT_MAX;
    let (echo, mode) = (EchoClient::new(config, transport).spawn(), session.mode);
    if mode.is_large() {
        let payload = Bytes::from(vec![b'x'; mode.payload_bytes()]);
        session.measure(Lanes::new(BytesCaller { echo, payload }, mode)).await
    } else {
        let payload = "x".repeat(mode.payload_bytes());
        session.measure(Lanes::new(TextCaller { echo, payload }, mode)).await
    }
}

#[derive(Clone)]
struct TextCaller {
    echo: EchoClient,
    payload: String,
}

impl Caller for TextCaller {
    async fn call(&mut self) -> Result<(), Failure> {
        let reply = self.echo.text(context::current(), self.payload.clone()).await?;
        check(reply.len(), self.payload.len())
    }
}

#[derive(Clone)]
struct BytesCaller {
    echo: EchoClient,
    payload: Bytes,
}

impl Caller for BytesCaller {
    async fn call(&mut self) -> Result<(), Failure> {
        let reply = self.echo.bytes(context::current(), self.payload.clone()).await?;
        check(reply.len(), self.payload.len())
    }
}

/// More than any mode has in flight.
const IN_FLIGHT_MAX: usize = 4_096;
