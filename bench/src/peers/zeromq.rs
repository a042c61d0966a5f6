//! The crate `zeromq`: a ROUTER that binds and DEALERs that connect, as raw messages without a call.
//!
//! The ROUTER's only task sends a request for each reply that it reads, so nobody waits for a wake-up of its own as a
//! caller would. Each DEALER has a task; all share a process. The crate sets `TCP_NODELAY`, and has no other setting
//! for speed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use zeromq::{DealerSocket, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

use crate::{
    load::{Driver, Failure, Tally, check},
    mode::Mode,
    session::{Session, ready},
};

/// The ROUTER, which makes the calls.
pub(crate) async fn router(session: Session) -> Result<(), Failure> {
    let mut socket = RouterSocket::new();
    ready(&[&socket.bind("tcp://127.0.0.1:0").await?.to_string()])?;
    let mut dealers = Vec::new();
    while dealers.len() < session.mode.workers() {
        let greeting = socket.recv().await?;
        dealers.push(greeting.get(0).cloned().ok_or("a message without an identity")?);
    }
    let (mode, payload) = (session.mode, Bytes::from(vec![b'x'; session.mode.payload_bytes()]));
    session.measure(Router { socket, dealers, payload, mode }).await
}

/// The DEALERs, which serve them.
pub(crate) async fn dealers(session: Session) -> Result<(), Failure> {
    let mut dealers = tokio::task::JoinSet::new();
    for _ in 0..session.mode.workers() {
        dealers.spawn(dealer(session.endpoint.clone()));
    }
    while let Some(dealer) = dealers.join_next().await {
        dealer??;
    }
    Ok(())
}

async fn dealer(endpoint: String) -> Result<(), Failure> {
    let mut socket = DealerSocket::new();
    socket.connect(&endpoint).await?;
    // A ROUTER knows a peer only once it has sent a message.
    socket.send(ZmqMessage::from(Bytes::new())).await?;
    loop {
        let request = socket.recv().await?;
        socket.send(request).await?;
    }
}

struct Router {
    socket: RouterSocket,
    dealers: Vec<Bytes>,
    payload: Bytes,
    mode: Mode,
}

impl Router {
    async fn request(&mut self, dealer: Bytes) -> Result<(), Failure> {
        let mut request = ZmqMessage::from(dealer);
        request.push_back(self.payload.clone());
        Ok(self.socket.send(request).await?)
    }

    /// Reads a reply, and returns whose it is.
    async fn reply(&mut self) -> Result<Bytes, Failure> {
        let reply = self.socket.recv().await?;
        check(reply.get(1).map_or(0, Bytes::len), self.payload.len())?;
        reply.get(0).cloned().ok_or_else(|| "a message without an identity".into())
    }
}

impl Driver for Router {
    async fn run(&mut self, time: Duration) -> Result<Tally, Failure> {
        let mut latencies = self.mode.is_sequential().then(|| Histogram::new(3)).transpose()?;
        let (start, mut calls) = (Instant::now(), 0);
        for dealer in self.dealers.clone() {
            for _ in 0..self.mode.in_flight() / self.mode.workers() {
                self.request(dealer.clone()).await?;
            }
        }
        let mut before = start;
        while before - start < time {
            let dealer = self.reply().await?;
            let now = Instant::now();
            if let Some(latencies) = &mut latencies {
                latencies.record(u64::try_from((now - before).as_nanos())?)?;
            }
            (before, calls) = (now, calls + 1);
            self.request(dealer).await?;
        }
        for _ in 0..self.mode.in_flight() {
            self.reply().await?;
            calls += 1;
        }
        Ok(Tally { calls, time: start.elapsed(), latencies })
    }
}
