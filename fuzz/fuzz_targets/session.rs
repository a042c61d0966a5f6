//! Whatever a peer sends, in chunks of any size: no panic, no memory beyond what has arrived, and the same result as in
//! one piece.

#![no_main]

// The engine is no part of the library's interface; it imports nothing of the rest of the library. The target uses only
// some of it, and what is `pub(crate)` there has no crate around it here.
#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../../xero/src/transport/zmtp/engine/mod.rs"]
mod engine;

use arbitrary::Arbitrary;
use bytes::Bytes;
use engine::{Event, Limits, Outgoing, Role, Session, Violation};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input {
    is_router: bool,
    /// Begins after a complete handshake, which random bytes seldom make.
    is_open: bool,
    bytes: Vec<u8>,
    cuts: Vec<u16>,
}

const LIMITS: Limits = Limits { header_bytes_max: 1024, payload_bytes_max: 64 << 10 };

fuzz_target!(|input: Input| {
    let role = if input.is_router { Role::Router } else { Role::Dealer };
    let bytes = match input.is_open {
        true => [handshake(role), input.bytes].concat(),
        false => input.bytes,
    };
    let cut = run(role, &bytes, &input.cuts);
    assert_eq!(cut, run(role, &bytes, &[]));
});

/// The events up to the end or the violation.
fn run(role: Role, mut bytes: &[u8], cuts: &[u16]) -> (Vec<Event>, Option<Violation>) {
    let (mut outgoing, mut events, mut arrived) = (Outgoing::default(), Vec::new(), 0);
    let mut session = Session::new(role, Bytes::from_static(b"this side"), LIMITS, &mut outgoing);
    let mut cuts = cuts.iter().map(|cut| usize::from(*cut) + 1);
    while !bytes.is_empty() {
        let size = cuts.next().unwrap_or(usize::MAX).min(bytes.len());
        let mut input = &[][..];
        match session.body() {
            Some(body) => {
                let (buffer, room) = body.buffer();
                let (read, rest) = bytes.split_at(size.min(room));
                buffer.extend_from_slice(read);
                (arrived, bytes) = (arrived + read.len(), rest);
            }
            None => {
                (input, bytes) = bytes.split_at(size);
                arrived += input.len();
            }
        }
        loop {
            match session.receive(&mut input, &mut outgoing) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(violation) => return (events, Some(violation)),
            }
        }
        assert!(input.is_empty());
        assert!(session.held_bytes() <= 4 * arrived + (32 << 10));
        assert!(outgoing.bytes() <= 4096, "answers to a peer that reads nothing");
    }
    (events, None)
}

fn handshake(role: Role) -> Vec<u8> {
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 1];
    bytes.extend(b"NULL");
    bytes.resize(64, 0);
    bytes.extend(match role {
        Role::Router => b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER",
        Role::Dealer => b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06ROUTER",
    });
    bytes
}
