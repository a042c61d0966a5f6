//! Whole conversations: two sessions, or one session and the bytes of a foreign peer.

mod chunks;
mod hostile;

use std::io::IoSlice;

use bytes::Bytes;

use super::{
    Event, Limits, Outgoing, Received, Role, Session, Violation, command, greeting, greeting::Mechanism,
    limits::FRAMES_MAX,
};

const LIMITS: Limits = Limits { header_bytes_max: 1024, payload_bytes_max: 1 << 20 };

/// A session and what it has to write.
struct Side {
    session: Session,
    outgoing: Outgoing,
}

impl Side {
    fn new(role: Role) -> Self {
        let mut outgoing = Outgoing::default();
        let identity = Bytes::from_static(match role {
            Role::Router => b"router",
            Role::Dealer => b"dealer",
        });
        Self { session: Session::new(role, identity, LIMITS, &mut outgoing), outgoing }
    }

    /// A ROUTER whose handshake is complete.
    fn open() -> Self {
        let mut side = Self::new(Role::Router);
        assert_eq!(side.receive(&handshake(1)), Ok(vec![Event::Open]));
        side.written();
        side
    }

    /// An open ROUTER that has received its first message.
    fn introduced() -> Self {
        let mut side = Self::open();
        assert_eq!(side.receive(b"\0\x05hello"), Ok(vec![message(b"hello", b"")]));
        side
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Violation> {
        let (mut input, mut events) = (bytes, Vec::new());
        while let Some(event) = self.session.receive(&mut input, &mut self.outgoing)? {
            events.push(event);
        }
        assert!(input.is_empty());
        Ok(events)
    }

    fn written(&mut self) -> Vec<u8> {
        let bytes = written(&self.outgoing);
        self.outgoing.advance(bytes.len());
        assert!(self.outgoing.is_empty());
        assert_eq!(self.outgoing.messages(), 0);
        bytes
    }
}

fn written(outgoing: &Outgoing) -> Vec<u8> {
    let mut slices = vec![IoSlice::new(&[]); 10_000];
    let count = outgoing.slices(&mut slices);
    let bytes = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>();
    assert_eq!(bytes.len(), outgoing.bytes());
    bytes
}

/// The bytes of a DEALER up to its READY.
fn handshake(minor: u8) -> Vec<u8> {
    let mut bytes = greeting::write(Mechanism::Null, false).to_vec();
    bytes[11] = minor;
    bytes.extend(command::ready("DEALER", b"peer"));
    bytes
}

fn message(header: &[u8], payload: &[u8]) -> Event {
    let (header, payload) = (Bytes::copy_from_slice(header), Bytes::copy_from_slice(payload));
    Event::Received(Received::Message { header, payload })
}

fn long(flags: u8, length: u64) -> Vec<u8> {
    [flags | 2].into_iter().chain(length.to_be_bytes()).collect()
}

fn sent(header: &'static [u8], payload: &'static [u8]) -> Vec<u8> {
    let mut outgoing = Outgoing::default();
    outgoing.push_message(Bytes::from_static(header), Bytes::from_static(payload));
    written(&outgoing)
}

#[test]
fn two_sessions_open_and_exchange_messages() {
    let (mut router, mut dealer) = (Side::new(Role::Router), Side::new(Role::Dealer));
    let (to_router, to_dealer) = (dealer.written(), router.written());
    assert_eq!(router.receive(&to_router), Ok(vec![]));
    assert_eq!(dealer.receive(&to_dealer), Ok(vec![]));
    let (to_router, to_dealer) = (dealer.written(), router.written());
    assert_eq!(router.receive(&to_router), Ok(vec![Event::Open]));
    assert_eq!(dealer.receive(&to_dealer), Ok(vec![Event::Open]));
    for (header, payload) in [(&b"alone"[..], &b""[..]), (b"with", b"payload"), (b"", b"")] {
        assert_eq!(router.receive(&sent(header, payload)), Ok(vec![message(header, payload)]));
        assert_eq!(dealer.receive(&sent(header, payload)), Ok(vec![message(header, payload)]));
    }
}

/// As libzmq 4.3.5 sends it: version 3.1, 3.0 where a test has changed the minor version.
#[test]
fn greeting_and_ready_of_libzmq_are_read() {
    for minor in [0, 1] {
        let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, minor];
        bytes.extend(b"NULL");
        bytes.resize(64, 0);
        bytes.extend(b"\x04\x29\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00");
        bytes.extend(b"\x01\x00\x00\x02hi");
        let mut side = Side::new(Role::Router);
        assert_eq!(side.receive(&bytes), Ok(vec![Event::Open, message(b"", b"hi")]));
    }
}

#[test]
fn own_greeting_and_ready_are_as_specified() {
    let mut side = Side::new(Role::Dealer);
    let greeting = side.written();
    assert_eq!((&greeting[..10], greeting.len()), (&b"\xff\0\0\0\0\0\0\0\0\x7f"[..], 64));
    assert_eq!(&greeting[10..33], b"\x03\x01NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(side.receive(&greeting::write(Mechanism::Null, true)), Ok(vec![]));
    let ready = b"\x04\x2f\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x06dealer";
    assert_eq!(side.written(), ready);
}

#[test]
fn ping_is_answered_with_its_context() {
    let mut side = Side::open();
    assert_eq!(side.receive(b"\x04\x0b\x04PING\0\x64test"), Ok(vec![]));
    assert_eq!(side.written(), b"\x04\x09\x04PONGtest");
    // Also between the frames of a message.
    let bytes = [&b"\x01\x01a"[..], b"\x04\x07\x04PING\0\0", b"\0\x01b"].concat();
    assert_eq!(side.receive(&bytes), Ok(vec![message(b"a", b"b")]));
    assert_eq!(side.written(), b"\x04\x05\x04PONG");
}

#[test]
fn unknown_commands_and_pongs_are_ignored() {
    let mut side = Side::open();
    assert_eq!(side.receive(b"\x04\x05\x04PONG\x04\x08\x05LATERxy\0\x01a"), Ok(vec![message(b"a", b"")]));
    assert!(side.written().is_empty());
}

#[test]
fn wrong_number_of_frames_is_reported_and_the_next_message_arrives() {
    let mut side = Side::introduced();
    for count in [3, 4, FRAMES_MAX] {
        let bytes = [b"\x01\x01x".repeat(count - 1), b"\0\x01x".to_vec(), sent(b"next", b"one")].concat();
        let wrong = Event::Received(Received::WrongFrameCount(count));
        assert_eq!(side.receive(&bytes), Ok(vec![wrong, message(b"next", b"one")]));
    }
}

#[test]
fn payload_over_the_limit_is_skipped_and_reported_with_its_header() {
    for over in [1, 1 << 20] {
        let mut side = Side::introduced();
        let length = LIMITS.payload_bytes_max + over;
        assert_eq!(side.receive(&[b"\x01\x03who".to_vec(), long(0, length as u64)].concat()), Ok(vec![]));
        for _ in 1..length {
            assert_eq!(side.receive(&[7]), Ok(vec![]));
            assert_eq!(side.session.held_bytes(), 3);
        }
        let header = Bytes::from_static(b"who");
        let report = Received::Oversized { header, header_bytes: 3, payload_bytes: length as u64 };
        assert_eq!(side.receive(&[7]), Ok(vec![Event::Received(report)]));
        assert_eq!(side.receive(&sent(b"next", b"one")), Ok(vec![message(b"next", b"one")]));
    }
}

#[test]
fn payload_of_exactly_the_limit_arrives() {
    let mut side = Side::introduced();
    let payload = vec![7; LIMITS.payload_bytes_max];
    let bytes = [b"\x01\x03who".to_vec(), long(0, payload.len() as u64), payload.clone()].concat();
    assert_eq!(side.receive(&bytes), Ok(vec![message(b"who", &payload)]));
}

#[test]
fn header_over_the_limit_is_cut_and_reported() {
    let mut side = Side::introduced();
    let header = vec![7; LIMITS.header_bytes_max + 500];
    let bytes = [long(1, header.len() as u64), header.clone(), b"\0\x04gone".to_vec()].concat();
    let cut = Bytes::copy_from_slice(&header[..1024]);
    let report = Received::Oversized { header: cut, header_bytes: header.len() as u64, payload_bytes: 4 };
    assert_eq!(side.receive(&bytes), Ok(vec![Event::Received(report)]));
    assert_eq!(side.receive(&sent(b"next", b"one")), Ok(vec![message(b"next", b"one")]));
}

#[test]
fn small_payloads_are_gathered_and_large_ones_are_not_copied() {
    let mut outgoing = Outgoing::default();
    let large = Bytes::from(vec![1; 100_000]);
    for payload in [Bytes::from_static(b"small"), large.clone(), Bytes::from_static(b"small")] {
        outgoing.push_message(Bytes::from_static(b"header"), payload);
    }
    let mut slices = [IoSlice::new(&[]); 8];
    assert_eq!(outgoing.slices(&mut slices), 3);
    assert_eq!(slices[1].as_ptr(), large.as_ptr());
    assert_eq!(outgoing.messages(), 3);
}

#[test]
fn written_messages_are_no_longer_counted() {
    for step in [1, 7, 1000, 70_000] {
        let mut outgoing = Outgoing::default();
        for n in 0..100 {
            outgoing.push_message(Bytes::from_static(b"header"), Bytes::from(vec![1; n * 300]));
        }
        let mut left = outgoing.bytes();
        assert_eq!(outgoing.messages(), 100);
        while left > 0 {
            outgoing.advance(step.min(left));
            left -= step.min(left);
            assert_eq!(outgoing.bytes(), left);
            assert_eq!(outgoing.messages() == 0, left == 0, "{left} bytes are left");
        }
    }
}
