//! The attacks. Each is written once, for victims that listen and victims that dial.

use std::{array::from_fn, pin::pin, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{interval, timeout},
};
use xero::proto::{
    frame,
    message::{Codec, Message, MethodOffer, Payload, Request, Role, ServiceOffer},
};
use xero_tests::{
    process::{descriptors_highest, limit_descriptors},
    raw::{self, COMMAND, Link, MORE, Ready, declared, greeting, message_bytes},
    scene::{PATIENCE, within},
};

use super::{
    scale,
    side::{Assault, Side, reset, write},
};

/// What an attacker keeps until it leaves.
#[derive(Debug, Default)]
pub(super) struct Held {
    _streams: Vec<TcpStream>,
    _shortage: Option<Shortage>,
}

impl From<Vec<TcpStream>> for Held {
    fn from(streams: Vec<TcpStream>) -> Self {
        Self { _streams: streams, _shortage: None }
    }
}

/// Frames of 2^31 to 2^63 bytes before, in place of and after the handshake, and after the introduction.
pub(super) async fn declared_lengths(assault: Arc<Assault>) -> Held {
    let openings = openings(&assault.side);
    let mut streams = Vec::new();
    for n in 0.. {
        let Some(mut stream) = assault.next_of_flood(33 * 3 * 4).await else { break };
        let frame = declared([0, MORE, COMMAND][n / 33 % 3], 1 << (31 + n % 33));
        write(&mut stream, &[&openings[n % 4], &frame[..]].concat()).await;
        keep(&mut streams, stream, n);
    }
    streams.into()
}

/// Thousands of connections that each declare the largest payload, or the largest header.
pub(super) async fn largest_allowed(assault: Arc<Assault>) -> Held {
    let mut streams = Vec::new();
    while let Some(mut stream) = assault.next_of(2_000).await {
        let (header, payload) = (declared(MORE, 64 << 10), [b"\x01\x01h", &declared(0, 64 << 20)[..]].concat());
        let frame = if streams.len() % 2 == 0 { header } else { payload };
        write(&mut stream, &[assault.side.introduction(), frame, vec![7; 1_000]].concat()).await;
        streams.push(stream);
    }
    streams.into()
}

/// Messages of frames without an end.
pub(super) async fn endless_frames(assault: Arc<Assault>) -> Held {
    let frames = [&[MORE, 64][..], &[7; 64]].concat().repeat(1_000);
    while let Some(mut stream) = assault.next_of_flood(20).await {
        write(&mut stream, &assault.side.introduction()).await;
        while write(&mut stream, &frames).await && !assault.is_off() {}
    }
    Held::default()
}

/// Large messages that stop in the middle.
pub(super) async fn unended_messages(assault: Arc<Assault>) -> Held {
    let begun = [b"\x01\x01h", &declared(0, 64 << 20)[..], &[7; 256 << 10]].concat();
    let mut streams = Vec::new();
    while let Some(mut stream) = assault.next_of(200).await {
        write(&mut stream, &[assault.side.introduction(), begun.clone()].concat()).await;
        streams.push(stream);
    }
    streams.into()
}

/// Bytes without a meaning, in place of each step and in messages.
pub(super) async fn garbage(assault: Arc<Assault>) -> Held {
    let openings = openings(&assault.side);
    let mut streams = Vec::new();
    for n in 0.. {
        let Some(mut stream) = assault.next_of_flood(200).await else { break };
        let garbage: Vec<u8> = (0..fastrand::usize(1..2_000)).map(|_| fastrand::u8(..)).collect();
        let sent = if n % 8 < 4 { garbage } else { message(&garbage) };
        write(&mut stream, &[&openings[n % 4][..], &sent].concat()).await;
        keep(&mut streams, stream, n);
    }
    streams.into()
}

/// Half a greeting, then silence.
pub(super) async fn half_greetings(assault: Arc<Assault>) -> Held {
    let mut streams = Vec::new();
    while let Some(mut stream) = assault.next_of(300).await {
        write(&mut stream, &greeting()[..32]).await;
        streams.push(stream);
    }
    streams.into()
}

/// One byte a second, of a handshake and of a message, until it is called off.
pub(super) async fn trickle(assault: Arc<Assault>) -> Held {
    let mut streams = Vec::new();
    while streams.len() < 4
        && let Some(mut stream) = assault.next_of(4).await
    {
        let slow = [assault.side.introduction(), message(&[7; 1_000])].concat();
        let at_once = if streams.len() % 2 == 0 { 0 } else { assault.side.introduction().len() };
        write(&mut stream, &slow[..at_once]).await;
        streams.push((stream, slow, at_once));
    }
    let mut seconds = interval(Duration::from_secs(1));
    while !assault.is_off() {
        seconds.tick().await;
        for (stream, bytes, written) in &mut streams {
            write(stream, &bytes[*written..][..1]).await;
            *written += 1;
        }
    }
    streams.into_iter().map(|(stream, ..)| stream).collect::<Vec<_>>().into()
}

/// Handshakes that are opened and dropped by the thousand, at any byte, every other one by a reset.
pub(super) async fn dropped_handshakes(assault: Arc<Assault>) -> Held {
    let handshake = assault.side.handshake(b"");
    for n in 0.. {
        let Some(mut stream) = assault.next_of_flood(2_000).await else { break };
        write(&mut stream, &handshake[..n % (handshake.len() + 1)]).await;
        if n % 2 == 0 {
            reset(stream);
        }
    }
    Held::default()
}

/// A READY of ZMTP with a huge property, with many, and with one that is longer than READY.
pub(super) async fn properties(assault: Arc<Assault>) -> Held {
    let readies = [
        [declared(COMMAND, 12 << 20), b"\x05READY\x01x\0\xb0\0\0".to_vec(), vec![0; 1 << 20]].concat(),
        [declared(COMMAND, 6 + 600 * 6), b"\x05READY".to_vec(), b"\x01x\0\0\0\0".repeat(600)].concat(),
        b"\x04\x0c\x05READY\x01x\xff\xff\xff\xff".to_vec(),
    ];
    for n in 0.. {
        let Some(mut stream) = assault.next_of_flood(30).await else { break };
        write(&mut stream, &[&greeting()[..], &readies[n % 3]].concat()).await;
    }
    Held::default()
}

/// No descriptor for a further connection: the victim cannot accept, or cannot dial.
pub(super) async fn shortage(assault: Arc<Assault>) -> Held {
    let below = if assault.side.is_dialing() { 1 } else { descriptors_highest(assault.victim) + 17 };
    let shortage = Some(Shortage { victim: assault.victim, before: limit_descriptors(assault.victim, Some(below)) });
    let mut streams = Vec::new();
    while let Some(mut stream) = assault.next_of(300).await {
        write(&mut stream, &assault.side.introduction()).await;
        if !assault.side.is_dialing() {
            streams.push(stream);
        }
    }
    Held { _streams: streams, _shortage: shortage }
}

/// A limit of a process's descriptors, until this is dropped.
#[derive(Debug)]
struct Shortage {
    victim: u32,
    before: Option<u64>,
}

impl Drop for Shortage {
    fn drop(&mut self) {
        limit_descriptors(self.victim, self.before);
    }
}

/// Connections with the identity and the incarnation of another peer, every other one with a reset.
pub(super) async fn taken_identity(assault: Arc<Assault>) -> Held {
    const IDENTITY: &[u8] = b"the same";
    let ready = Message::Ready(assault.side.ready());
    let mut robbed = match &*assault.side {
        Side::Listening { address, .. } => Some(Link::dial_as(&format!("tcp://{address}"), IDENTITY).await),
        Side::Dialing { .. } => None,
    };
    if let Some(robbed) = &mut robbed {
        robbed.send(&ready).await;
        assert!(matches!(robbed.receive_news().await, Some(Message::Ready(_))));
    }
    let same = [assault.side.handshake(IDENTITY), message_bytes(&ready)].concat();
    let mut streams = Vec::new();
    for n in 0.. {
        let Some(mut stream) = assault.next_of_flood(200).await else { break };
        write(&mut stream, &same).await;
        match n % 2 {
            0 => reset(stream),
            _ => keep(&mut streams, stream, n / 2),
        }
    }
    if let Some(mut robbed) = robbed {
        // Its own connection stands, and the answer to a second introduction takes it.
        robbed.send(&ready).await;
        assert!(matches!(within(PATIENCE, robbed.receive_news()).await, Some(Message::Ready(_))));
    }
    streams.into()
}

/// Requests for large replies that are never read: optimized, for several times what a victim holds for one peer.
pub(super) async fn unread_replies(assault: Arc<Assault>, connections: usize) -> Held {
    write_on(&assault, connections, REPLIES_MAX, |call| {
        // 64 or 256 KiB: larger ones would keep the processors of a small machine busy for the good peers, too.
        let size = if cfg!(debug_assertions) { b"\xfc\0\0\x01\0" } else { b"\xfc\0\0\x04\0" };
        let size = Payload { codec: Codec::Bincode, bytes: size[..].into() };
        message_bytes(&Message::Request(Request { payload: size, ..raw::request(call, "bytes", "") }))
    })
    .await
}

/// Peers that introduce themselves again and again, with the largest offer, another one each time.
pub(super) async fn introductions(assault: Arc<Assault>) -> Held {
    let readies: Arc<[_]> = largest_introductions(&assault).map(|ready| message_bytes(&ready)).into();
    write_on(&assault, 1, INTRODUCTIONS_MAX, move |n| readies[n as usize % readies.len()].clone()).await
}

/// As many of them as a BATCH may have, again and again.
pub(super) async fn batches_of_introductions(assault: Arc<Assault>) -> Held {
    let readies = largest_introductions(&assault);
    let batches: Arc<[_]> = [0, 4].map(|from| raw::frames_bytes(&frame::encode_batch(&readies[from..from + 4]))).into();
    write_on(&assault, 1, INTRODUCTIONS_MAX / 4, move |n| batches[n as usize % batches.len()].clone()).await
}

/// Hundreds of peers that introduce themselves at the same time with the largest offer, each with another one.
pub(super) async fn crowd_of_introductions(assault: Arc<Assault>) -> Held {
    let mut streams = Vec::new();
    while let Some(mut stream) = assault.next_of(200).await {
        let ready = Message::Ready(Ready { services: largest_offer(streams.len()), ..assault.side.ready() });
        write(&mut stream, &[assault.side.handshake(b""), message_bytes(&ready)].concat()).await;
        streams.push(stream);
    }
    streams.into()
}

/// Peers that introduce themselves with the largest offer, leave, and come again.
pub(super) async fn short_introductions(assault: Arc<Assault>) -> Held {
    let readies: Arc<[_]> = largest_introductions(&assault).map(|ready| message_bytes(&ready)).into();
    let mut visitors = JoinSet::new();
    for n in 0..8 * scale() {
        let (assault, readies) = (Arc::clone(&assault), Arc::clone(&readies));
        visitors.spawn(async move {
            let handshake = assault.side.handshake(b"");
            while let Some(mut stream) = assault.next_of(VISITS).await {
                let [first, second] = [n, n + 1].map(|n| &readies[n % readies.len()]);
                write(&mut stream, &[&handshake[..], first, second].concat()).await;
                // The answer shows that the first one was read.
                let _ = timeout(WAITING, stream.read(&mut [0; 256])).await;
            }
        });
    }
    visitors.join_all().await;
    Held::default()
}

/// Small introductions, each of which is answered with all that the victim offers.
pub(super) async fn empty_introductions(assault: Arc<Assault>) -> Held {
    let ready = message_bytes(&Message::Ready(assault.side.ready()));
    write_on(&assault, 1, u64::MAX, move |_| ready.repeat(64)).await
}

/// Introductions with the largest offers, each with another one.
fn largest_introductions(assault: &Assault) -> [Message; 8] {
    from_fn(|seed| Message::Ready(Ready { services: largest_offer(seed), ..assault.side.ready() }))
}

/// As many services and methods as a READY may have, with names that fill its header.
fn largest_offer(seed: usize) -> Vec<ServiceOffer> {
    let methods = (0..16).map(|n| MethodOffer { name: format!("{n:x}").into(), idempotent: false, fingerprint: 1 });
    let methods: Vec<_> = methods.collect();
    let offer =
        |n| ServiceOffer { name: format!("{:03x}", seed * 256 + n).into(), version: 1, methods: methods.clone() };
    (0..256).map(offer).collect()
}

/// Errors that nobody reads: of unknown methods, or of introductions that the victim refuses.
pub(super) async fn unread_errors(assault: Arc<Assault>) -> Held {
    if assault.side.serves() {
        return write_on(&assault, 1, u64::MAX, |call| {
            message_bytes(&Message::Request(raw::request(call, "none", "[]")))
        })
        .await;
    }
    let role = if assault.side.is_dialing() { Role::Client } else { Role::Dispatcher };
    let refused = message_bytes(&Message::Ready(Ready { role, ..assault.side.ready() }));
    let refused = [assault.side.handshake(b""), refused].concat();
    let mut streams = Vec::new();
    for n in 0.. {
        let Some(mut stream) = assault.next_of_flood(200).await else { break };
        write(&mut stream, &refused).await;
        keep(&mut streams, stream, n);
    }
    streams.into()
}

/// Keeps this number of connections open, and writes numbered messages to each without reading. It stops after `most`
/// messages, or once the assault is off.
async fn write_on(
    assault: &Arc<Assault>,
    connections: usize,
    most: u64,
    message: impl Fn(u64) -> Vec<u8> + Clone + Send + 'static,
) -> Held {
    let mut writers = JoinSet::new();
    for n in 1..=(connections * scale()) as u64 {
        let (assault, message) = (Arc::clone(assault), message.clone());
        writers.spawn(async move {
            let mut written = 0;
            while let Some(mut stream) = assault.next_of_flood(1).await {
                write(&mut stream, &assault.side.introduction()).await;
                while written < most && write_until_off(&assault, &mut stream, &message((n << 32) + written)).await {
                    written += 1;
                }
                if written == most || assault.is_off() {
                    return Some(stream);
                }
            }
            None
        });
    }
    writers.join_all().await.into_iter().flatten().collect::<Vec<_>>().into()
}

/// Writes all of it, however slowly the victim reads; `false` if the connection has ended or the assault is off.
async fn write_until_off(assault: &Assault, stream: &mut TcpStream, bytes: &[u8]) -> bool {
    let mut writing = pin!(stream.write_all(bytes));
    while !assault.is_off() {
        if let Ok(written) = timeout(Duration::from_millis(20), &mut writing).await {
            return written.is_ok();
        }
    }
    false
}

/// What comes before, in place of, and after the handshake, and after the introduction.
fn openings(side: &Side) -> [Vec<u8>; 4] {
    [Vec::new(), greeting().to_vec(), side.handshake(b""), side.introduction()]
}

/// A message of one frame.
fn message(body: &[u8]) -> Vec<u8> {
    [&declared(0, body.len() as u64), body].concat()
}

/// Keeps the last connections open.
fn keep(streams: &mut Vec<TcpStream>, stream: TcpStream, n: usize) {
    const KEPT: usize = 64;
    match streams.get_mut(n % KEPT) {
        Some(oldest) => *oldest = stream,
        None => streams.push(stream),
    }
}

/// The visits in all.
const VISITS: usize = if cfg!(debug_assertions) { 200 } else { 4_000 };

/// How long a visitor waits for an answer.
const WAITING: Duration = Duration::from_millis(200);

/// As many as a broker takes of a client at once.
const REPLIES_MAX: u64 = 1_000;

/// So many of the largest introductions keep a victim busy for some seconds.
const INTRODUCTIONS_MAX: u64 = if cfg!(debug_assertions) { 60 } else { 1_000 };
