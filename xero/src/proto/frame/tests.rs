//! One file per topic: round trips of any message, the document's own bytes, growth, limits, hostile input.

mod any;
mod golden;
mod growth;
mod hostile;
mod limits;

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::{Frames, Limits, Malformed, batched_bytes, check, decode, encode, encode::header_bytes, encode_batch};
use crate::proto::message::*;

proptest! {
    #[test]
    fn any_message_comes_back_as_it_was(message in any::message()) {
        let frames = encode(&message);
        prop_assert_eq!(check(&message, &Limits::default()), Ok(()));
        prop_assert_eq!(frames.header.len(), header_bytes(&message));
        prop_assert_eq!(all(frames), [Ok(message)]);
    }

    #[test]
    fn any_batch_comes_back_in_order(messages in prop::collection::vec(any::message(), 1..8)) {
        let frames = encode_batch(&messages);
        if messages.len() != 1 {
            prop_assert_eq!(frames.payload.len(), messages.iter().map(batched_bytes).sum::<usize>());
        }
        prop_assert_eq!(all(frames), messages.into_iter().map(Ok).collect::<Vec<_>>());
    }
}

#[test]
fn batch_that_announces_too_much_is_broken_behind_that() {
    let largest = Message::Offer(OfferChange { withdrawn: vec!["s".into(); 256], ..OfferChange::default() });
    for (messages, read) in [(79, 79), (1_000, 79)] {
        let mut decoded = decode(encode_batch(&vec![largest.clone(); messages]), &Limits::default());
        let whole = std::iter::from_fn(|| decoded.next()).take_while(Result::is_ok).count();
        assert_eq!(whole, read, "of {messages}");
        assert!(decoded.next().is_none());
    }
    let frames = encode_batch(&vec![largest; 1_000]);
    let mut errors = decode(frames, &Limits::default()).filter_map(Result::err);
    let broken = errors.next().expect("it is too long");
    assert!(broken.breaks_batch() && broken.to_string().contains("more than 20000 services"), "{broken}");
}

#[test]
fn one_message_is_not_batched() {
    let message = Message::Final(reply(b"pong"));
    assert_eq!(encode_batch(std::slice::from_ref(&message)), encode(&message));
}

#[test]
fn payload_is_shared_and_not_copied() {
    let payload = Bytes::from(vec![7; 100_000]);
    let message =
        Message::Final(FinalReply { payload: Payload { bytes: payload.clone(), ..Payload::default() }, ..reply(b"") });
    let frames = encode(&message);
    assert_eq!(frames.payload.as_ptr(), payload.as_ptr());
    assert_eq!(payload_of(all(frames).remove(0)).as_ptr(), payload.as_ptr());
}

#[test]
fn metadata_does_not_pin_the_header() {
    let metadata = [("key".to_owned(), Bytes::from_static(b"value"))].into();
    let frames = encode(&Message::Request(Request { metadata, ..request() }));
    let header = frames.header.as_ptr_range();
    let Ok(Message::Request(read)) = all(frames.clone()).remove(0) else { panic!("a request") };
    assert_eq!(read.metadata["key"], "value");
    assert!(!header.contains(&read.metadata["key"].as_ptr()));
}

#[test]
fn batched_payload_keeps_no_body_of_more_than_twice_its_size() {
    static LARGE: [u8; 1_000] = [7; 1_000];
    let mut frames = encode_batch(&[Message::Final(reply(b"small")), Message::Final(reply(&LARGE))]);
    let is_kept = |frames: Frames| {
        let body = frames.payload.as_ptr_range();
        all(frames).into_iter().take(2).map(move |item| body.contains(&payload_of(item).as_ptr())).collect::<Vec<_>>()
    };
    assert_eq!(is_kept(frames.clone()), [false, true]);
    // Bytes after the last message count as well.
    frames.payload = [&frames.payload[..], &[0; 1_000]].concat().into();
    assert_eq!(is_kept(frames), [false, false]);
}

#[test]
fn remaining_time_and_interval_are_capped_at_the_largest_number() {
    let longest = Duration::from_micros(u64::MAX);
    let request = Request { remaining: Duration::MAX, ..request() };
    assert_eq!(
        one(&Message::Request(request.clone())),
        Ok(Message::Request(Request { remaining: longest, ..request }))
    );
    let ready = Ready { interval: Duration::MAX, ..ready() };
    assert_eq!(one(&Message::Ready(ready.clone())), Ok(Message::Ready(Ready { interval: longest, ..ready })));
}

fn all(frames: Frames) -> Vec<Result<Message, Malformed>> {
    read(frames, &Limits::default())
}

fn read(frames: Frames, limits: &Limits) -> Vec<Result<Message, Malformed>> {
    decode(frames, limits).map(|item| item.map(|inbound| inbound.message)).collect()
}

fn one(message: &Message) -> Result<Message, Malformed> {
    all(encode(message)).remove(0)
}

fn frames(header: &[u8], payload: &[u8]) -> Frames {
    Frames { header: Bytes::copy_from_slice(header), payload: Bytes::copy_from_slice(payload) }
}

/// The error of frames that hold one unreadable message.
fn refused(header: &[u8], payload: &[u8]) -> Malformed {
    let mut items = all(frames(header, payload));
    assert_eq!(items.len(), 1, "{items:?}");
    items.remove(0).expect_err("the message is malformed")
}

fn payload_of(item: Result<Message, Malformed>) -> Bytes {
    match item {
        Ok(Message::Final(reply)) => reply.payload.bytes,
        other => panic!("not a final reply: {other:?}"),
    }
}

fn reply(value: &'static [u8]) -> FinalReply {
    let payload = Payload { codec: Codec::Bincode, bytes: Bytes::from_static(value) };
    FinalReply { call: CallId(9), partials: 0, payload }
}

fn request() -> Request {
    Request {
        call: CallId(0x0102_0304_0506_0708),
        attempt: 1,
        idempotent: true,
        as_declared: false,
        fail_fast: false,
        service: "Demo".into(),
        method: "compare".into(),
        fingerprint: 0x9798_5165_b42a_709f,
        remaining: Duration::from_secs(5),
        metadata: Metadata::new(),
        payload: Payload { codec: Codec::Bincode, bytes: Bytes::from_static(b"\x05apple\x06orange") },
    }
}

fn ready() -> Ready {
    let method = |name: &str, fingerprint| MethodOffer { name: name.into(), idempotent: true, fingerprint };
    let methods = vec![method("compare", 0x9798_5165_b42a_709f), method("ping", 0xf0ba_12c0_45b0_6998)];
    Ready {
        role: Role::Worker,
        incarnation: Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        capabilities: Capabilities::BATCH,
        interval: Duration::from_secs(1),
        payload_bytes_max: 64 << 20,
        credits: 64,
        window_bytes: 2 << 20,
        codecs: vec![Codec::Bincode, Codec::MessagePack, Codec::Json],
        services: vec![ServiceOffer { name: "Demo".into(), version: 1, methods }],
    }
}
