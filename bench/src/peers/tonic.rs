//! tonic: protobuf over HTTP/2, without TLS.
//!
//! `TCP_NODELAY` is its default on both sides. Its documentation offers the rest: as many concurrent streams as there
//! are calls in flight (a server allows 200 by default), and windows that hold the large messages. The payload's type
//! for bytes is `Bytes`, which prost does not copy when it decodes.

use bytes::Bytes;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

use crate::{
    load::{Caller, Failure, Lanes, check},
    session::{Session, ready},
};

use generated::{
    echo_client::EchoClient,
    echo_server::{Echo, EchoServer},
};

/// What `build.rs` makes of the service.
#[allow(missing_docs, missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/bench.Echo.rs"));
}

/// A payload of text.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Text {
    #[prost(string, tag = "1")]
    payload: String,
}

/// A payload of bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Blob {
    #[prost(bytes = "bytes", tag = "1")]
    payload: Bytes,
}

struct Mirror;

#[tonic::async_trait]
impl Echo for Mirror {
    async fn text(&self, request: Request<Text>) -> Result<Response<Text>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn bytes(&self, request: Request<Blob>) -> Result<Response<Blob>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

/// Serves any connection.
pub(crate) async fn server() -> Result<(), Failure> {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?.with_nodelay(Some(true));
    ready(&[&incoming.local_addr()?.to_string()])?;
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_service(EchoServer::new(Mirror))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

/// Calls over one connection.
pub(crate) async fn client(session: Session) -> Result<(), Failure> {
    let channel = Endpoint::from_shared(format!("http://{}", session.endpoint))?
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect()
        .await?;
    let (echo, mode) = (EchoClient::new(channel), session.mode);
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
    echo: EchoClient<Channel>,
    payload: String,
}

impl Caller for TextCaller {
    async fn call(&mut self) -> Result<(), Failure> {
        let reply = self.echo.text(Text { payload: self.payload.clone() }).await?;
        check(reply.into_inner().payload.len(), self.payload.len())
    }
}

#[derive(Clone)]
struct BytesCaller {
    echo: EchoClient<Channel>,
    payload: Bytes,
}

impl Caller for BytesCaller {
    async fn call(&mut self) -> Result<(), Failure> {
        let reply = self.echo.bytes(Blob { payload: self.payload.clone() }).await?;
        check(reply.into_inner().payload.len(), self.payload.len())
    }
}

/// More than any mode has in flight.
const STREAMS_MAX: u32 = 4_096;

/// Room for a large message and its framing.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;

/// Room for all large messages in flight.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
