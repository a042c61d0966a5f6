//! However the bytes are cut, the same messages arrive.

use proptest::prelude::*;

use super::*;

/// Receives bytes as the sockets do: pieces by `receive`, or straight into a large frame that is unfinished.
fn receive_cut(side: &mut Side, mut bytes: &[u8], cuts: &[usize]) -> Result<Vec<Event>, Violation> {
    let (mut events, mut cuts) = (Vec::new(), cuts.iter().cycle());
    while !bytes.is_empty() {
        let size = (*cuts.next().expect("a cycle")).clamp(1, bytes.len());
        let mut input = &[][..];
        match side.session.body() {
            Some(body) => {
                let (buffer, room) = body.buffer();
                let (read, rest) = bytes.split_at(size.min(room));
                buffer.extend_from_slice(read);
                bytes = rest;
            }
            None => (input, bytes) = bytes.split_at(size),
        }
        while let Some(event) = side.session.receive(&mut input, &mut side.outgoing)? {
            events.push(event);
        }
        assert!(input.is_empty());
    }
    Ok(events)
}

fn sizes() -> impl Strategy<Value = (usize, usize)> {
    let header = prop_oneof![0..300usize, Just(LIMITS.header_bytes_max)];
    let payload = prop_oneof![4 => 0..300usize, 1 => 7_000..9_000usize, 1 => 30_000..200_000usize];
    (header, payload)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunks_of_any_size_give_the_same_messages(
        sizes in prop::collection::vec(sizes(), 0..20),
        cuts in prop::collection::vec(prop_oneof![1..10usize, 1..100_000usize], 1..10),
        is_old in any::<bool>(),
    ) {
        let mut outgoing = Outgoing::default();
        let mut expected = vec![Event::Open, message(b"hello", b"")];
        outgoing.push_message(Bytes::from_static(b"hello"), Bytes::new());
        for (n, (header, payload)) in sizes.into_iter().enumerate() {
            let (header, payload) = (vec![n as u8; header], vec![!(n as u8); payload]);
            expected.push(message(&header, &payload));
            outgoing.push_message(header.into(), payload.into());
        }
        let bytes = [handshake(u8::from(!is_old)), written(&outgoing)].concat();
        let mut side = Side::new(Role::Router);
        prop_assert_eq!(receive_cut(&mut side, &bytes, &cuts), Ok(expected));
        prop_assert_eq!(side.session.held_bytes(), 0);
    }

    #[test]
    fn garbage_ends_in_a_violation_or_waits_for_more(
        prefix in prop_oneof![Just(0), Just(64), Just(handshake(1).len())],
        bytes in prop::collection::vec(any::<u8>(), 0..2_000),
        cuts in prop::collection::vec(1..100usize, 1..4),
    ) {
        let bytes = [&handshake(1)[..prefix], &bytes].concat();
        let mut side = Side::new(Role::Router);
        let _ = receive_cut(&mut side, &bytes, &cuts);
        prop_assert!(side.session.held_bytes() <= 4 * bytes.len() + 2 * (16 << 10));
    }

    /// Frames of sound structure, with lengths and flags of any kind.
    #[test]
    fn frames_of_any_kind_cost_at_most_what_has_arrived(
        frames in prop::collection::vec((0..8u8, 0..300usize, any::<bool>()), 0..50),
        declared in any::<u64>(),
    ) {
        let mut side = Side::introduced();
        let mut bytes = Vec::new();
        for (flags, length, is_long) in frames {
            match u8::try_from(length).ok().filter(|_| !is_long) {
                Some(length) => bytes.extend([flags & !2, length]),
                None => bytes.extend(long(flags, length as u64)),
            }
            bytes.extend(vec![1; length]);
        }
        bytes.extend(long(0, declared));
        let _ = receive_cut(&mut side, &bytes, &[17, 300]);
        prop_assert!(side.session.held_bytes() <= 2 * bytes.len());
    }
}
