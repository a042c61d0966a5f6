//! jsonrpsee: JSON over WebSocket.
//!
//! WebSocket keeps one connection for all calls, where HTTP would have several. `TCP_NODELAY` is its default on both
//! sides. The number of concurrent requests and the server's buffer of messages are raised above what a mode has in
//! flight. JSON has no bytes: they travel as Base64, its shortest text for them.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use jsonrpsee::{
    client_transport::ws::{Url, WsTransportClientBuilder},
    core::{RpcResult, async_trait, client::Client},
    proc_macros::rpc,
    server::{Server, ServerConfig},
};

use crate::{
    load::{Caller, Failure, Lanes, check},
    session::{Session, ready},
};

#[rpc(client, server)]
trait Echo {
    #[method(name = "text")]
    async fn text(&self, payload: String) -> RpcResult<String>;
}

struct Mirror;

#[async_trait]
impl EchoServer for Mirror {
    async fn text(&self, payload: String) -> RpcResult<String> {
        Ok(payload)
    }
}

/// Serves any connection.
pub(crate) async fn server() -> Result<(), Failure> {
    let config = ServerConfig::builder().ws_only().set_message_buffer_capacity(IN_FLIGHT_MAX).set_tcp_no_delay(true);
    let server = Server::builder().set_config(config.build()).build("127.0.0.1:0").await?;
    let endpoint = server.local_addr()?;
    let handle = server.start(Mirror.into_rpc());
    ready(&[&endpoint.to_string()])?;
    handle.stopped().await;
    Ok(())
}

/// Calls over one connection.
pub(crate) async fn client(session: Session) -> Result<(), Failure> {
    let url = Url::parse(&format!("ws://{}", session.endpoint))?;
    let (sender, receiver) = WsTransportClientBuilder::default().build(url).await?;
    let settings = Client::builder().max_concurrent_requests(IN_FLIGHT_MAX as usize);
    let echo: Arc<Client> = settings.build_with_tokio(sender, receiver).into();
    let mode = session.mode;
    if mode.is_large() {
        let payload: Arc<[u8]> = vec![b'x'; mode.payload_bytes()].into();
        session.measure(Lanes::new(BytesCaller { echo, payload }, mode)).await
    } else {
        let payload = "x".repeat(mode.payload_bytes());
        session.measure(Lanes::new(TextCaller { echo, payload }, mode)).await
    }
}

#[derive(Clone)]
struct TextCaller {
    echo: Arc<Client>,
    payload: String,
}

impl Caller for TextCaller {
    async fn call(&mut self) -> Result<(), Failure> {
        let reply = self.echo.text(self.payload.clone()).await?;
        check(reply.len(), self.payload.len())
    }
}

#[derive(Clone)]
struct BytesCaller {
    echo: Arc<Client>,
    payload: Arc<[u8]>,
}

impl Caller for BytesCaller {
    async fn call(&mut self) -> Result<(), Failure> {
        let reply = self.echo.text(BASE64_STANDARD.encode(&self.payload)).await?;
        check(BASE64_STANDARD.decode(reply)?.len(), self.payload.len())
    }
}

/// More than any mode has in flight.
const IN_FLIGHT_MAX: u32 = 4_096;
