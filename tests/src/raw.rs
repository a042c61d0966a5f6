//! Peers made by hand: ZMTP 3.0 over a TCP stream, without the tested code, except the message types.
//!
//! They misbehave as our own peers never do: speak out of turn, repeat themselves, stop reading, send bytes that are
//! not a message.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use uuid::Uuid;
pub use xero::proto::message::Ready;
use xero::proto::{
    frame::{self, Frames, Limits},
    message::{
        CallId, Capabilities, Codec, ErrorCode, ErrorReply, FinalReply, Message, MethodOffer, PartialReply, Payload,
        Request, Role, ServiceOffer,
    },
};

use crate::scene::{LONG, PATIENCE, within};

/// One ZeroMQ connection.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    /// The other side's identity.
    pub identity: Vec<u8>,
}

impl Link {
    /// Connects as a DEALER with a new identity.
    pub async fn dial(endpoint: &str) -> Self {
        Self::dial_as(endpoint, Uuid::new_v4().as_bytes()).await
    }

    /// Connects as a DEALER with this identity.
    pub async fn dial_as(endpoint: &str, identity: &[u8]) -> Self {
        let stream = connect(endpoint).await;
        within(PATIENCE, Self::shake_hands(stream, "DEALER", identity)).await.expect("a handshake")
    }

    /// Accepts a DEALER as a ROUTER does; an error if it disconnects during that.
    pub async fn accept(listener: &TcpListener) -> io::Result<Self> {
        let (stream, _) = within(PATIENCE, listener.accept()).await?;
        within(PATIENCE, Self::shake_hands(stream, "ROUTER", &[])).await
    }

    async fn shake_hands(mut stream: TcpStream, kind: &str, identity: &[u8]) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.write_all(&greeting()).await?;
        stream.read_exact(&mut [0; 64]).await?;
        let mut link = Self { stream, identity: Vec::new() };
        link.stream.write_all(&introduction(kind, identity)).await?;
        let (flags, body) = link.read_frame().await?;
        assert_eq!(flags & COMMAND, COMMAND, "a handshake ends with a command");
        link.identity = property(&body, b"Identity");
        Ok(link)
    }

    /// Sends a message of these frames.
    pub async fn send_frames(&mut self, frames: &[&[u8]]) {
        self.try_send_frames(frames).await.expect("the connection stands");
    }

    /// Sends a message of these frames; an error when the connection is gone.
    pub async fn try_send_frames(&mut self, frames: &[&[u8]]) -> io::Result<()> {
        for (index, frame) in frames.iter().enumerate() {
            let more = if index + 1 < frames.len() { MORE } else { 0 };
            self.write_frame(more, frame).await?;
        }
        Ok(())
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &Message) {
        let Frames { header, payload } = frame::encode(message);
        match payload.is_empty() {
            true => self.send_frames(&[&header]).await,
            false => self.send_frames(&[&header, &payload]).await,
        }
    }

    /// Sends a ZMTP command, such as a PING, unless an earlier one has ended the connection.
    pub async fn send_command(&mut self, body: &[u8]) {
        let _ = self.write_frame(COMMAND, body).await;
    }

    /// Sends bytes without any frame around them.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next message; `None` when the connection has ended.
    pub async fn receive(&mut self) -> Option<Message> {
        let frames = within(PATIENCE, self.receive_frames()).await?;
        let mut messages: Vec<_> = frame::decode(frames, &Limits::default()).collect();
        assert_eq!(messages.len(), 1, "no batch is sent to a peer that has not announced that it reads them");
        Some(messages.remove(0).expect("our own peers write what can be read").message)
    }

    /// The next message except heartbeats and acknowledgements; `None` when the connection has ended.
    pub async fn receive_news(&mut self) -> Option<Message> {
        loop {
            match self.receive().await {
                Some(Message::Heartbeat | Message::Patience(_) | Message::Ack(_)) => {}
                other => return other,
            }
        }
    }

    /// The next request; the connection must stand.
    pub async fn receive_request(&mut self) -> Request {
        match self.receive_news().await {
            Some(Message::Request(request)) => request,
            other => panic!("a request was to come and not {other:?}"),
        }
    }

    /// The next reply that ends a request with an error; the connection must stand.
    pub async fn receive_error(&mut self) -> ErrorReply {
        match self.receive_news().await {
            Some(Message::Error(error)) => error,
            other => panic!("an error was to come and not {other:?}"),
        }
    }

    /// Reads until the connection ends.
    pub async fn ended(&mut self) {
        while self.receive().await.is_some() {}
    }

    async fn receive_frames(&mut self) -> Option<Frames> {
        let mut frames = Vec::new();
        loop {
            let (flags, body) = self.read_frame().await.ok()?;
            if flags & COMMAND == 0 {
                frames.push(Bytes::from(body));
                if flags & MORE == 0 {
                    break;
                }
            }
        }
        assert!(frames.len() <= 2, "a message has one or two frames and not {}", frames.len());
        let mut frames = frames.into_iter();
        Some(Frames { header: frames.next()?, payload: frames.next().unwrap_or_default() })
    }

    async fn write_frame(&mut self, flags: u8, body: &[u8]) -> io::Result<()> {
        self.stream.write_all(&frame_bytes(flags, body)).await
    }

    async fn read_frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let flags = self.stream.read_u8().await?;
        let length = match flags & LARGE {
            0 => self.stream.read_u8().await?.into(),
            _ => self.stream.read_u64().await?,
        };
        let mut body = vec![0; usize::try_from(length).expect("a frame of our own")];
        self.stream.read_exact(&mut body).await?;
        Ok((flags, body))
    }
}

/// A worker made by hand that the client has registered.
pub async fn worker(endpoint: &str, ready: Ready) -> Link {
    let mut link = Link::dial(endpoint).await;
    link.send(&Message::Ready(ready)).await;
    match link.receive().await {
        Some(Message::Ready(answer)) => assert_eq!(answer.role, Role::Dispatcher),
        other => panic!("READY was to be answered, not with {other:?}"),
    }
    link
}

/// A dispatcher made by hand.
#[derive(Debug)]
pub struct Dispatcher {
    listener: TcpListener,
    /// The endpoint for workers.
    pub endpoint: String,
}

impl Dispatcher {
    /// A dispatcher that listens on a free port.
    pub async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("tcp://{}", listener.local_addr().expect("it is bound"));
        Self { listener, endpoint }
    }

    /// The next connection, before any message on it.
    pub async fn accept(&self) -> Link {
        loop {
            // A worker that was refused in between returns.
            if let Ok(link) = Link::accept(&self.listener).await {
                return link;
            }
        }
    }

    /// The next worker, introduced and answered.
    pub async fn register(&self) -> Link {
        let mut link = self.accept().await;
        match link.receive().await {
            Some(Message::Ready(ready)) => assert_eq!(ready.role, Role::Worker),
            other => panic!("a worker was to introduce itself and not say {other:?}"),
        }
        let answer = Ready { role: Role::Dispatcher, credits: 0, services: Vec::new(), ..ready() };
        link.send(&Message::Ready(answer)).await;
        link
    }
}

/// The introduction of a worker that offers `Probe` with the method `ping`, for up to 8 requests at once. Its interval
/// is so long that it may stay silent during a test.
pub fn ready() -> Ready {
    let methods = ["ping", "work", "echo", "bytes", "progress"];
    let methods = methods.map(|name| MethodOffer { name: name.into(), idempotent: false, fingerprint: 0 });
    Ready {
        role: Role::Worker,
        incarnation: Uuid::new_v4(),
        capabilities: Capabilities::default(),
        interval: LONG,
        payload_bytes_max: 64 << 20,
        credits: 8,
        window_bytes: 0,
        codecs: Codec::ALL.to_vec(),
        services: vec![ServiceOffer { name: "Probe".into(), version: 1, methods: methods.to_vec() }],
    }
}

/// A request for a method of `Probe`, with arguments in JSON.
pub fn request(call: u64, method: &str, arguments: &str) -> Request {
    Request {
        call: CallId(call),
        attempt: 1,
        idempotent: false,
        as_declared: false,
        fail_fast: false,
        service: "Probe".into(),
        method: method.into(),
        fingerprint: 0,
        remaining: Duration::from_secs(30),
        metadata: Default::default(),
        payload: json(arguments),
    }
}

/// A payload in JSON.
pub fn json(text: &str) -> Payload {
    Payload { codec: Codec::Json, bytes: Bytes::copy_from_slice(text.as_bytes()) }
}

/// A text in bincode, as typed calls take it.
pub fn text(text: &str) -> Payload {
    let length = u8::try_from(text.len()).ok().filter(|length| *length <= 250).expect("a short text");
    Payload { codec: Codec::Bincode, bytes: [&[length], text.as_bytes()].concat().into() }
}

/// The reply that ends a call.
pub fn final_reply(call: CallId, payload: Payload) -> Message {
    Message::Final(FinalReply { call, partials: 0, payload })
}

/// A partial reply of a call.
pub fn partial_reply(call: CallId, sequence: u32, payload: Payload) -> Message {
    Message::Partial(PartialReply { call, sequence, payload })
}

/// The error that ends a call.
pub fn error_reply(call: CallId, code: ErrorCode) -> Message {
    let (detail, payload) = (String::new(), Payload::default());
    Message::Error(ErrorReply { call, partials: 0, code, maybe_executed: false, detail, payload })
}

/// A TCP connection to an endpoint.
pub async fn connect(endpoint: &str) -> TcpStream {
    let address = endpoint.strip_prefix("tcp://").expect("a TCP endpoint");
    within(PATIENCE, TcpStream::connect(address)).await.expect("somebody listens")
}

/// The first 64 bytes of a peer.
pub fn greeting() -> [u8; 64] {
    let mut greeting = [0; 64];
    greeting[0] = 0xFF;
    greeting[9] = 0x7F;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

/// What follows the greeting: ZMTP's own READY.
pub fn introduction(kind: &str, identity: &[u8]) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    for (name, value) in [("Socket-Type", kind.as_bytes()), ("Identity", identity)] {
        body.push(u8::try_from(name.len()).expect("a short name"));
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(&u32::try_from(value.len()).expect("a short value").to_be_bytes());
        body.extend_from_slice(value);
    }
    frame_bytes(COMMAND, &body)
}

/// A message as it is written.
pub fn message_bytes(message: &Message) -> Vec<u8> {
    frames_bytes(&frame::encode(message))
}

/// A message of these frames as it is written.
pub fn frames_bytes(Frames { header, payload }: &Frames) -> Vec<u8> {
    match payload.is_empty() {
        true => frame_bytes(0, header),
        false => [frame_bytes(MORE, header), frame_bytes(0, payload)].concat(),
    }
}

/// The head of a long frame that declares this length.
pub fn declared(flags: u8, length: u64) -> Vec<u8> {
    [&[flags | LARGE][..], &length.to_be_bytes()].concat()
}

fn frame_bytes(flags: u8, body: &[u8]) -> Vec<u8> {
    let head = match u8::try_from(body.len()) {
        Ok(length) => vec![flags, length],
        Err(_) => declared(flags, body.len() as u64),
    };
    [&head, body].concat()
}

fn property(body: &[u8], name: &[u8]) -> Vec<u8> {
    let Some(at) = body.windows(name.len()).position(|window| window == name) else { return Vec::new() };
    let rest = &body[at + name.len()..];
    let (length, value) = rest.split_at(4);
    let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
    value[..length as usize].to_vec()
}

/// The flag of a frame that another one of its message follows.
pub const MORE: u8 = 1;

/// The flag of a frame that is a command.
pub const COMMAND: u8 = 4;

const LARGE: u8 = 2;
