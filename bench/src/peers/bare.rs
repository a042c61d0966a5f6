//! Bare Tokio TCP loops, the least that a call over a socket can cost: messages of a fixed size, answered in order.
//!
//! One kind writes each message by itself, and reads one at a time. The other reads and writes whatever has gathered.
//! Both set `TCP_NODELAY`. With several calls in flight, callers wait for their reply like those of an RPC framework;
//! a sequential caller reads and writes the socket itself.

use std::{
    collections::VecDeque,
    io, iter,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{self, mpsc, oneshot},
};

use crate::{
    load::{Caller, Failure, Lanes, OneLane},
    mode::Mode,
    session::{Session, ready},
};

/// Reads one message at a time, and writes each.
pub(crate) async fn flushing_server(session: Session) -> Result<(), Failure> {
    let mut stream = accept().await?;
    let mut message = vec![0; session.mode.payload_bytes()];
    loop {
        stream.read_exact(&mut message).await?;
        stream.write_all(&message).await?;
    }
}

/// Reads whatever has gathered, and writes it back.
pub(crate) async fn batching_server(session: Session) -> Result<(), Failure> {
    let mut stream = accept().await?;
    let mut buffer = vec![0; buffer_bytes(session.mode)];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            read => stream.write_all(&buffer[..read]).await?,
        }
    }
}

/// Writes each request by itself.
pub(crate) async fn flushing_client(session: Session) -> Result<(), Failure> {
    let (stream, mode) = (connect(&session.endpoint).await?, session.mode);
    let payload: Arc<[u8]> = vec![b'x'; mode.payload_bytes()].into();
    if mode.is_sequential() {
        let reply = vec![0; mode.payload_bytes()];
        return session.measure(OneLane(Alone { stream, payload, reply })).await;
    }
    let (reader, writer) = stream.into_split();
    let waiting = Waiting::default();
    tokio::spawn(read_each(reader, mode.payload_bytes(), Arc::clone(&waiting)));
    let writer = Arc::new(sync::Mutex::new(writer));
    session.measure(Lanes::new(Flushing { writer, waiting, payload }, mode)).await
}

/// Writes the requests that have gathered in one go.
pub(crate) async fn batching_client(session: Session) -> Result<(), Failure> {
    let (stream, mode) = (connect(&session.endpoint).await?, session.mode);
    let (reader, writer) = stream.into_split();
    let (calls, mailbox) = mpsc::unbounded_channel();
    let waiting = Waiting::default();
    tokio::spawn(write_gathered(writer, mailbox, mode, Arc::clone(&waiting)));
    tokio::spawn(read_gathered(reader, mode, waiting));
    session.measure(Lanes::new(Batching { calls }, mode)).await
}

/// The callers whose replies are due, oldest first. A caller learns of a broken connection when its end is dropped.
type Waiting = Arc<Mutex<VecDeque<oneshot::Sender<()>>>>;

/// A sequential caller, which has the connection to itself.
struct Alone {
    stream: TcpStream,
    payload: Arc<[u8]>,
    reply: Vec<u8>,
}

impl Caller for Alone {
    async fn call(&mut self) -> Result<(), Failure> {
        self.stream.write_all(&self.payload).await?;
        self.stream.read_exact(&mut self.reply).await?;
        Ok(())
    }
}

/// One of several callers, each of which writes its own requests.
#[derive(Clone)]
struct Flushing {
    writer: Arc<sync::Mutex<OwnedWriteHalf>>,
    waiting: Waiting,
    payload: Arc<[u8]>,
}

impl Caller for Flushing {
    async fn call(&mut self) -> Result<(), Failure> {
        let (sender, reply) = oneshot::channel();
        let mut writer = self.writer.lock().await;
        // Under the lock, so that callers wait in the order of their requests.
        push(&self.waiting, [sender]);
        writer.write_all(&self.payload).await?;
        drop(writer);
        Ok(reply.await?)
    }
}

async fn read_each(mut reader: OwnedReadHalf, size: usize, waiting: Waiting) -> io::Result<()> {
    let mut message = vec![0; size];
    // Ends with the connection, as does what it drops: the callers then have no sender left.
    while reader.read_exact(&mut message).await.is_ok() {
        answer(&waiting, 1);
    }
    fail(&waiting)
}

/// One of several callers, whose requests one task writes.
#[derive(Clone)]
struct Batching {
    calls: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

impl Caller for Batching {
    async fn call(&mut self) -> Result<(), Failure> {
        let (sender, reply) = oneshot::channel();
        self.calls.send(sender)?;
        Ok(reply.await?)
    }
}

async fn write_gathered(
    mut writer: OwnedWriteHalf,
    mut mailbox: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    mode: Mode,
    waiting: Waiting,
) -> io::Result<()> {
    let batch_max = buffer_bytes(mode) / mode.payload_bytes();
    let requests = vec![b'x'; batch_max * mode.payload_bytes()];
    let mut batch = Vec::new();
    while let Some(first) = mailbox.recv().await {
        // The other callers come first: a multi-thread runtime runs a task that was just woken before all others, and
        // so would write each request by itself.
        tokio::task::yield_now().await;
        batch.push(first);
        batch.extend(iter::from_fn(|| mailbox.try_recv().ok()).take(batch_max - 1));
        let bytes = batch.len() * mode.payload_bytes();
        push(&waiting, batch.drain(..));
        writer.write_all(&requests[..bytes]).await?;
    }
    Ok(())
}

async fn read_gathered(mut reader: OwnedReadHalf, mode: Mode, waiting: Waiting) -> io::Result<()> {
    let mut buffer = vec![0; buffer_bytes(mode)];
    let mut unread = 0;
    while let Ok(read @ 1..) = reader.read(&mut buffer).await {
        unread += read;
        answer(&waiting, unread / mode.payload_bytes());
        unread %= mode.payload_bytes();
    }
    fail(&waiting)
}

fn push(waiting: &Waiting, callers: impl IntoIterator<Item = oneshot::Sender<()>>) {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).extend(callers);
}

fn answer(waiting: &Waiting, replies: usize) {
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let due = waiting.len().min(replies);
    for caller in waiting.drain(..due) {
        // A caller that is gone needs no reply.
        let _ = caller.send(());
    }
}

/// Tells the callers that no reply comes, by dropping their senders.
fn fail(waiting: &Waiting) -> io::Result<()> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    Err(io::ErrorKind::ConnectionAborted.into())
}

async fn accept() -> io::Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    ready(&[&listener.local_addr()?.to_string()])?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn connect(endpoint: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(endpoint).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Room for a batch of small messages, or for one large message.
fn buffer_bytes(mode: Mode) -> usize {
    if mode.is_large() { mode.payload_bytes() } else { 64 * 1_024 }
}
