//! What a peer may not do, and that it costs nothing.

use super::*;

/// The violation that these bytes lead to, whole and byte by byte.
fn violation(make: fn() -> Side, bytes: &[u8]) -> Option<Violation> {
    let whole = make().receive(bytes).err();
    let mut side = make();
    let bytewise = bytes.iter().find_map(|byte| side.receive(&[*byte]).err());
    assert_eq!(whole, bytewise);
    whole
}

fn greeted() -> Side {
    let mut side = Side::new(Role::Router);
    assert_eq!(side.receive(&greeting::write(Mechanism::Null, false)), Ok(vec![]));
    side.written();
    side
}

#[test]
fn declared_lengths_reserve_nothing() {
    for exponent in 31..64 {
        let length = 1 << exponent;
        for flags in [0, 1, 4] {
            let mut open = Side::introduced();
            let result = open.receive(&long(flags, length));
            assert!(open.session.held_bytes() == 0, "2^{exponent}: {}", open.session.held_bytes());
            let expected = match (flags, exponent) {
                (_, 63) => Err(Violation::Length(length)),
                (4, _) => Err(Violation::Command(length)),
                // It is over the limits, and skipped.
                (_, 31) => Ok(vec![]),
                _ => Err(Violation::Frame(length)),
            };
            assert_eq!(result, expected, "2^{exponent} with the flags {flags}");
            let in_handshake = if exponent == 63 {
                Violation::Length(length)
            } else if flags == 4 {
                Violation::Command(length)
            } else {
                Violation::NotReady
            };
            assert_eq!(violation(greeted, &long(flags, length)), Some(in_handshake));
        }
        assert_eq!(violation(|| Side::new(Role::Router), &long(0, length)), Some(Violation::Signature));
    }
}

#[test]
fn message_without_end_is_a_violation() {
    let mut side = Side::introduced();
    assert_eq!(side.receive(&b"\x01\x01x".repeat(FRAMES_MAX - 1)), Ok(vec![]));
    assert!(side.session.held_bytes() <= 1);
    assert_eq!(side.receive(b"\x01\x01x"), Err(Violation::Frames));
}

#[test]
fn first_message_has_no_large_payload() {
    assert_eq!(violation(Side::open, b"\x01\x01a\x02\0\0\0\0\0\0\x10\0"), None);
    assert_eq!(violation(Side::open, b"\x01\x01a\x02\0\0\0\0\0\0\x10\x01"), Some(Violation::FirstMessage(4097)));
    assert_eq!(violation(Side::introduced, b"\x01\x01a\x02\0\0\0\0\0\0\x10\x01"), None);
}

#[test]
fn pings_of_a_peer_that_never_reads_are_not_queued_without_end() {
    let mut side = Side::open();
    assert_eq!(side.receive(&b"\x04\x07\x04PING\0\0".repeat(100_000)), Ok(vec![]));
    assert_eq!(side.written(), b"\x04\x05\x04PONG".repeat(16));
    assert_eq!(side.receive(b"\x04\x07\x04PING\0\0"), Ok(vec![]));
    assert_eq!(side.written(), b"\x04\x05\x04PONG");
}

#[test]
fn handshake_goes_in_order() {
    let ready = |socket_type| command::ready(socket_type, b"peer");
    assert_eq!(violation(greeted, b"\0\x01a"), Some(Violation::NotReady));
    assert_eq!(violation(greeted, b"\x04\x07\x04PING\0\0"), Some(Violation::NotReady));
    assert_eq!(violation(greeted, b"\x04\x06\x05LATER"), Some(Violation::NotReady));
    assert_eq!(violation(Side::open, &ready("DEALER")), Some(Violation::ReadyRepeated));
    for other in ["ROUTER", "REQ", "PUB", "dealer", ""] {
        assert_eq!(violation(greeted, &ready(other)), Some(Violation::SocketType(other.to_owned())));
    }
    assert_eq!(violation(greeted, &command::ready("DEALER", b"router")), Some(Violation::SelfConnected));
    assert_eq!(violation(greeted, &command::error("no")), Some(Violation::Refused("no".to_owned())));
    assert_eq!(violation(Side::open, &command::error("no")), Some(Violation::Refused("no".to_owned())));
}

#[test]
fn subscriptions_are_refused() {
    for name in [&b"\x04\x0d\x09SUBSCRIBEabc"[..], b"\x04\x07\x06CANCEL"] {
        assert_eq!(violation(Side::open, name), Some(Violation::Subscription));
        assert_eq!(violation(greeted, name), Some(Violation::Subscription));
    }
}

#[test]
fn large_and_long_readies_are_violations() {
    assert_eq!(violation(greeted, &long(4, 4097)), Some(Violation::Command(4097)));
    let many = [long(4, 6 + 33 * 6), b"\x05READY".to_vec(), b"\x01x\0\0\0\0".repeat(33)].concat();
    assert_eq!(violation(greeted, &many), Some(Violation::Properties));
}

#[test]
fn refused_peer_learns_why_unless_it_speaks_another_protocol() {
    let mut side = greeted();
    let violation = side.receive(&command::ready("PUB", b"")).expect_err("a violation");
    side.session.refuse(&violation, &mut side.outgoing);
    let written = side.written();
    assert!(written.starts_with(b"\x04") && written[2..].starts_with(b"\x05ERROR"), "{written:?}");
    for mut side in [Side::new(Role::Router), Side::open()] {
        side.written();
        side.session.refuse(&Violation::Signature, &mut side.outgoing);
        assert!(side.written().is_empty());
    }
}
