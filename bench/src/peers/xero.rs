//! Xero with its default settings: a call by a typed client, direct or through a broker.
//!
//! In the mode with many workers, each is a `Worker` of its own with a connection and an I/O thread of its own. They
//! share a process and its runtime.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use xero::{Broker, Client, Worker};

use crate::{
    load::{Caller, Failure, Lanes, check},
    session::{Session, ready},
};

#[xero::service]
trait Echo {
    #[xero(idempotent)]
    async fn text(&self, payload: String) -> String;
    #[xero(idempotent, inline)]
    async fn inline_text(&self, payload: String) -> String;
    #[xero(idempotent)]
    async fn bytes(&self, payload: Bytes) -> Bytes;
    #[xero(idempotent, inline)]
    async fn inline_bytes(&self, payload: Bytes) -> Bytes;
}

struct Mirror;

#[xero::worker]
impl Echo for Mirror {
    async fn text(&self, payload: String) -> String {
        payload
    }

    async fn inline_text(&self, payload: String) -> String {
        payload
    }

    async fn bytes(&self, payload: Bytes) -> Bytes {
        payload
    }

    async fn inline_bytes(&self, payload: Bytes) -> Bytes {
        payload
    }
}

/// A client that binds, and calls a procedure of either kind.
pub(crate) async fn binding_client(session: Session, is_inline: bool) -> Result<(), Failure> {
    let client = Client::bind(ANY_PORT).await?;
    ready(&[client.endpoint()])?;
    measure(session, client, is_inline).await
}

/// A client of a broker.
pub(crate) async fn connecting_client(session: Session) -> Result<(), Failure> {
    let client = Client::connect(&session.endpoint)?;
    measure(session, client, false).await
}

/// The broker, until the process ends.
pub(crate) async fn broker() -> Result<(), Failure> {
    let broker = Broker::bind(ANY_PORT, ANY_PORT).await?;
    ready(&[broker.frontend(), broker.backend()])?;
    broker.left().await;
    Ok(())
}

/// The workers, until the process ends.
pub(crate) async fn workers(session: Session) -> Result<(), Failure> {
    let worker = || Worker::connect(&session.endpoint).serve(Mirror).start();
    let workers = (0..session.mode.workers()).map(|_| worker()).collect::<Result<Vec<_>, _>>()?;
    for worker in workers {
        worker.left().await;
    }
    Ok(())
}

async fn measure(session: Session, client: Client, is_inline: bool) -> Result<(), Failure> {
    let give_up_at = Instant::now() + CONNECT_TIMEOUT;
    client.wait_for_service("Echo", CONNECT_TIMEOUT).await?;
    while client.workers().len() < session.mode.workers() {
        if Instant::now() > give_up_at {
            return Err(format!("{} workers after {CONNECT_TIMEOUT:?}", client.workers().len()).into());
        }
        sleep(Duration::from_millis(5)).await;
    }
    let (echo, mode) = (EchoClient::new(&client), session.mode);
    if mode.is_large() {
        let payload = Bytes::from(vec![b'x'; mode.payload_bytes()]);
        session.measure(Lanes::new(BytesCaller { echo, payload, is_inline }, mode)).await
    } else {
        let payload = "x".repeat(mode.payload_bytes());
        session.measure(Lanes::new(TextCaller { echo, payload, is_inline }, mode)).await
    }
}

#[derive(Clone)]
struct TextCaller {
    echo: EchoClient,
    payload: String,
    is_inline: bool,
}

impl Caller for TextCaller {
    async fn call(&mut self) -> Result<(), Failure> {
        let payload = self.payload.clone();
        let reply = match self.is_inline {
            false => self.echo.text(payload).await?,
            true => self.echo.inline_text(payload).await?,
        };
        check(reply.len(), self.payload.len())
    }
}

#[derive(Clone)]
struct BytesCaller {
    echo: EchoClient,
    payload: Bytes,
    is_inline: bool,
}

impl Caller for BytesCaller {
    async fn call(&mut self) -> Result<(), Failure> {
        let payload = self.payload.clone();
        let reply = match self.is_inline {
            false => self.echo.bytes(payload).await?,
            true => self.echo.inline_bytes(payload).await?,
        };
        check(reply.len(), self.payload.len())
    }
}

/// How long all workers may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const ANY_PORT: &str = "tcp://127.0.0.1:0";
