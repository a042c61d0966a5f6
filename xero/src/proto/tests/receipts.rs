//! Receipts of replies whose client has not acknowledged them.

use super::pair::{introduction, start};
use crate::proto::{
    hold::{HoldLimits, Receipt},
    links::{LinkEvent, Links},
    liveness::Heartbeats,
    message::{CallId, FinalReply, Message, Payload, Peer, Ready, Role},
};

#[test]
fn goodbye_returns_the_receipts_of_what_the_peer_has_not_acknowledged() {
    let (now, peer) = (start(), Peer(1));
    let limits = HoldLimits { peer_bytes_max: 100, total_bytes_max: 3 << 20 };
    let mut links = Links::accepting(introduction(), Heartbeats::default(), Role::Client, "").holding(limits);
    links.accept(now, peer, &Ready { role: Role::Client, ..introduction() });
    let payload = Payload { bytes: vec![0; 1_000].into(), ..Payload::default() };
    let reply = Message::Final(FinalReply { call: CallId(1), partials: 0, payload });
    let receipt = links.pass_on(now, peer, reply, Receipt { from: Peer(9), bytes: 1_000 });
    assert_eq!(receipt.bytes, 0, "all of it is owed");
    while links.poll_event(now).is_some() {}
    links.say_goodbye(now, peer);
    let events: Vec<_> = std::iter::from_fn(|| links.poll_event(now)).collect();
    let released = events.iter().filter_map(|event| match event {
        LinkEvent::Released(Receipt { from: Peer(9), bytes }) => Some(*bytes),
        _ => None,
    });
    // A part may have found room before.
    assert!((899..=1_000).contains(&released.sum::<u64>()), "{events:?}");
}
