//! Bad input is an error that names its place; it never panics, and its declared sizes size no allocation
//! (`PROTOCOL.md` §14).

use super::super::{Reason, reader::Reader};
use super::*;

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(header in bytes(200), payload in bytes(200)) {
        let items = all(Frames { header: header.into(), payload: payload.into() });
        prop_assert!(!items.is_empty());
    }

    #[test]
    fn any_fields_behind_a_sound_header_are_read_or_refused(
        kind in 1..=13_u8, fields in bytes(200), payload in bytes(200),
    ) {
        let header = [&fixed(kind)[..], &fields].concat();
        let items = all(frames(&header, &payload));
        prop_assert!(items.len() <= payload.len() / 8 + 1);
    }

    #[test]
    fn any_changed_byte_is_read_or_refused(message in any::message(), at: prop::sample::Index, to: u8) {
        let Frames { header, payload } = encode(&message);
        let mut header = header.to_vec();
        let at = at.index(header.len());
        header[at] = to;
        let items = all(Frames { header: header.into(), payload });
        // The changed byte can turn it into a batch, and into an empty one.
        prop_assert!(items.len() == 1 || at == 5);
    }

    #[test]
    fn any_changed_byte_of_a_batch_spoils_no_earlier_message(
        messages in prop::collection::vec(any::message(), 2..6), at: prop::sample::Index, to: u8,
    ) {
        let Frames { header, payload } = encode_batch(&messages);
        let mut body = payload.to_vec();
        let at = at.index(body.len());
        body[at] = to;
        let ends = messages.iter().scan(0, |end, message| { *end += batched_bytes(message); Some(*end) });
        let before = ends.take_while(|end| *end <= at).count();
        let items = all(Frames { header, payload: body.into() });
        prop_assert!(items.iter().zip(&messages[..before]).all(|(item, message)| item.as_ref() == Ok(message)));
        prop_assert!(items.len() >= before);
    }
}

#[test]
fn declared_counts_of_an_introduction_are_not_trusted() {
    let limits = Limits { services_max: usize::MAX, methods_max: usize::MAX, ..Limits::default() };
    let mut header = encode(&Message::Ready(Ready { services: Vec::new(), ..ready() })).header.to_vec();
    let count = header.len() - 2;
    header[count..].fill(0xff);
    let items = read(frames(&header, b""), &limits);
    let [Err(malformed)] = &items[..] else { panic!("{items:?}") };
    assert_eq!(malformed.to_string(), format!("READY: service offer at byte {} needs 2 bytes, 0 are left", count + 2));
}

#[test]
fn room_is_reserved_only_for_what_the_bytes_can_hold() {
    let reader = Reader::new(&[0; 100], 10);
    assert_eq!(reader.room(usize::MAX, 9), 10);
    assert_eq!(reader.room(3, 9), 3);
    assert_eq!(Reader::new(&[], 10).room(65_535, 9), 0);
}

#[test]
fn declared_count_of_a_batch_is_not_trusted() {
    let limits = Limits { batch_messages_max: usize::MAX, ..Limits::default() };
    let header = [&fixed(13)[..], &[0xff; 4]].concat();
    let items = read(frames(&header, b""), &limits);
    let [Err(malformed)] = &items[..] else { panic!("{items:?}") };
    assert_eq!(malformed.to_string(), "BATCH: batched header at byte 0 needs 4 bytes, 0 are left");
}

#[test]
fn declared_length_of_four_gigabytes_is_cut_short() {
    let header = [&fixed(2)[..], &[0; 8], b"\x01S\x01m\x00\x01\x01k\xff\xff\xff\xff"].concat();
    let malformed = refused(&header, b"");
    let needed = 0xffff_ffff;
    assert_eq!(malformed.reason, Reason::CutShort { field: "metadata value", offset: 52, needed, left: 0 });
    assert_eq!(malformed.call, Some(CallId(7)));
}

#[test]
fn repeated_metadata_key_is_refused() {
    let header = [&fixed(2)[..], &[0; 8], b"\x01S\x01m\x00\x02", b"\x01k\0\0\0\0", b"\x01k\0\0\0\0"].concat();
    assert_eq!(
        refused(&header, b"").to_string(),
        "REQUEST of call 0000000000000007: metadata key at byte 53 is given twice"
    );
}

#[test]
fn text_that_is_not_utf_8_is_refused() {
    let header = [&fixed(9)[..], b"\x02\xff\xfe"].concat();
    assert_eq!(refused(&header, b"").to_string(), "SUBSCRIBE: topic at byte 33 is not UTF-8");
}

#[test]
fn unknown_role_is_refused() {
    let mut header = encode(&Message::Ready(ready())).header.to_vec();
    header[32] = 9;
    assert_eq!(refused(&header, b"").to_string(), "READY: role 9 at byte 32 is unknown");
}

#[test]
fn unknown_kind_is_refused_by_its_number() {
    for kind in [0, 16, 255] {
        let malformed = refused(&fixed(kind), b"");
        assert_eq!((malformed.kind, malformed.call, malformed.code), (Some(kind), None, ErrorCode::Malformed));
        assert_eq!(malformed.to_string(), format!("message: kind {kind} at byte 5 is unknown"));
    }
}

#[test]
fn payload_needs_a_codec() {
    for codec in [0, 5, 255] {
        for kind in [2, 3, 4, 8] {
            let message = match kind {
                2 => Message::Request(request()),
                8 => Message::Event(Event { topic: "t".into(), sequence: 0, payload: Payload::default() }),
                _ => Message::Final(reply(b"")),
            };
            let mut header = encode(&message).header.to_vec();
            (header[5], header[24]) = (kind, codec);
            let malformed = refused(&header, b"value");
            assert_eq!(malformed.reason, Reason::Unknown { field: "codec", offset: 24, value: codec });
        }
    }
}

#[test]
fn own_error_of_a_method_needs_a_codec() {
    let header = [&fixed(5)[..], &[ErrorCode::Application as u8, 0, 0]].concat();
    assert_eq!(refused(&header, b"").reason, Reason::Unknown { field: "codec", offset: 24, value: 0 });
}

#[test]
fn header_length_out_of_bounds_is_refused() {
    for length in [0, 31, 33, 65_535_u16] {
        let mut header = fixed(10);
        header[26..28].copy_from_slice(&length.to_be_bytes());
        assert_eq!(refused(&header, b"").reason, Reason::HeaderLength { length: length.into(), frame: 32 });
    }
}

#[test]
fn request_with_a_header_length_out_of_bounds_names_its_call_and_counts_in_the_window() {
    let mut header = encode(&Message::Request(request())).header.to_vec();
    let window_bytes = crate::proto::frame::window_bytes(&Message::Request(request()));
    header[27] = 31;
    let payload = request().payload.bytes;
    let alone = refused(&header, &payload);
    let batched = all(frames(&batch_of(1), &batched(&header, &payload))).remove(0).expect_err("it is malformed");
    for malformed in [alone, batched] {
        assert!(malformed.is_request());
        assert_eq!((malformed.call, malformed.window_bytes), (Some(request().call), window_bytes));
    }
}

#[test]
fn foreign_frame_is_refused() {
    assert_eq!(refused(b"GET / HTTP/1.1", b"").to_string(), "message: the frame does not start with \"XERO\"");
    assert_eq!(refused(b"", b"").reason, Reason::Magic);
    assert_eq!(refused(b"XERO\x01", b"").to_string(), "message: fixed header at byte 0 needs 32 bytes, 5 are left");
}

#[test]
fn batch_in_a_batch_breaks_the_one_around_it() {
    let inner = encode_batch(&[Message::Drain, Message::Drain]);
    let heartbeat = batched(&fixed(10), b"");
    let body = [&heartbeat, &batched(&inner.header, &inner.payload)[..], &heartbeat].concat();
    let items = all(frames(&batch_of(3), &body));
    let [Ok(Message::Heartbeat), Err(malformed)] = &items[..] else { panic!("{items:?}") };
    assert_eq!(malformed.to_string(), "BATCH: a batch must not hold a batch");
    assert!(malformed.breaks_batch());
}

#[test]
fn bad_message_in_a_batch_costs_only_itself() {
    let mut header = encode(&Message::Request(request())).header.to_vec();
    header.truncate(40);
    let body =
        [&batched(&fixed(11), b"")[..], &batched(&header, b"value"), &batched(b"", b""), &batched(&fixed(12), b"")];
    let items = all(frames(&batch_of(4), &body.concat()));
    let [Ok(Message::Drain), Err(short), Err(empty), Ok(Message::Goodbye)] = &items[..] else { panic!("{items:?}") };
    assert_eq!((short.kind, short.call, short.code), (Some(2), Some(request().call), ErrorCode::Malformed));
    assert_eq!(empty.reason, Reason::Magic);
    assert!(!short.breaks_batch() && !empty.breaks_batch());
}

#[test]
fn batch_that_ends_early_keeps_its_messages_and_is_an_error() {
    let items = all(frames(&batch_of(1000), &batched(&fixed(10), b"")));
    let [Ok(Message::Heartbeat), Err(malformed)] = &items[..] else { panic!("{items:?}") };
    assert_eq!(malformed.to_string(), "BATCH: batched header at byte 40 needs 4 bytes, 0 are left");
    assert!(malformed.breaks_batch());
}

#[test]
fn bytes_after_the_last_message_of_a_batch_break_it() {
    let body = [&batched(&fixed(10), b"")[..], &batched(&fixed(11), b"")].concat();
    let items = all(frames(&batch_of(1), &body));
    let [Ok(Message::Heartbeat), Err(malformed)] = &items[..] else { panic!("{items:?}") };
    assert_eq!(malformed.to_string(), "BATCH: 40 bytes follow the last message");
    assert!(malformed.breaks_batch());
}

#[test]
fn batch_without_a_message_is_refused() {
    for body in [&b""[..], &batched(&fixed(10), b"")] {
        let malformed = refused(&batch_of(0), body);
        assert_eq!(malformed.reason, Reason::EmptyBatch);
        assert!(malformed.breaks_batch());
    }
}

#[test]
fn message_about_a_call_needs_its_id_and_an_error_may_be_about_the_connection() {
    for kind in [2, 3, 4, 6] {
        let mut header = encode(&Message::Request(request())).header.to_vec();
        header[5] = kind;
        header[8..16].fill(0);
        let malformed = refused(&header, b"");
        assert_eq!((malformed.reason, malformed.call), (Reason::NoCall, None), "nobody is to be answered");
    }
    let error = ErrorReply::not_started(CallId(0), ErrorCode::Malformed, "not taken".into());
    assert_eq!(one(&Message::Error(error.clone())), Ok(Message::Error(error)));
}

#[test]
fn partial_reply_with_the_last_number_is_refused() {
    let partial = |sequence| {
        let FinalReply { call, payload, .. } = reply(b"value");
        Message::Partial(PartialReply { call, sequence, payload })
    };
    assert_eq!(one(&partial(u32::MAX - 1)), Ok(partial(u32::MAX - 1)));
    let malformed = one(&partial(u32::MAX)).expect_err("its count has no number");
    assert_eq!((malformed.reason, malformed.call), (Reason::PartialsBeyondCount, Some(CallId(9))));
}

fn bytes(size_max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(1), Just(0xff)], 0..size_max)
}

/// A fixed header with only its kind and call 7.
fn fixed(kind: u8) -> Vec<u8> {
    let mut header = encode(&Message::Heartbeat).header.to_vec();
    (header[5], header[15]) = (kind, 7);
    header
}

fn batch_of(count: u32) -> Vec<u8> {
    [&fixed(13)[..], &count.to_be_bytes()].concat()
}

fn batched(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = |part: &[u8]| u32::try_from(part.len()).expect("it is small").to_be_bytes();
    [&length(header)[..], header, &length(payload), payload].concat()
}
