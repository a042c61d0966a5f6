//! Both sides enforce the limits, and each error names the setter that raises the limit (`PROTOCOL.md` §13).

use super::*;

#[test]
fn messages_over_a_limit_are_neither_sent_nor_read() {
    for (message, limits, text) in oversized() {
        let error = check(&message, &limits).expect_err(text);
        assert_eq!(error.to_string(), text);
        let malformed = decode(encode(&message), &limits).next().expect("one item").expect_err(text);
        assert_eq!(malformed.code, ErrorCode::TooLarge, "{malformed}");
        assert!(malformed.to_string().contains(error.setter), "{malformed}");
    }
}

#[test]
fn messages_exactly_at_a_limit_pass() {
    for (message, limits, text) in oversized() {
        let error = check(&message, &limits).expect_err(text);
        let raised = raise(limits, error.setter, error.size);
        assert_eq!(check(&message, &raised), Ok(()), "{text}");
        assert_eq!(read(encode(&message), &raised), [Ok(message)], "{text}");
    }
}

#[test]
fn too_large_request_names_its_call() {
    let limits = Limits { payload_bytes_max: 3, ..Limits::default() };
    let malformed = decode(encode(&Message::Request(request())), &limits).next().expect("one item");
    let malformed = malformed.expect_err("it is too large");
    assert_eq!((malformed.kind, malformed.call), (Some(2), Some(request().call)));
    assert_eq!(
        malformed.to_string(),
        "REQUEST of call 0102030405060708: \
         payload of 13 bytes is over the limit of 3 bytes (raise it with `payload_bytes_max` on both sides)"
    );
}

#[test]
fn transport_that_drops_a_large_message_causes_the_same_error() {
    let limits = Limits { payload_bytes_max: 3, header_bytes_max: 500, ..Limits::default() };
    let batch = encode_batch(&[Message::Request(request()), Message::Heartbeat]);
    let metadata = [("a".into(), Bytes::from(vec![1; 600]))].into();
    let large_header = Message::Request(Request { metadata, ..request() });
    for frames in [encode(&Message::Request(request())), batch, encode(&large_header)] {
        let kept = frames.header.slice(..frames.header.len().min(100));
        let dropped = super::super::oversized(&kept, frames.header.len(), frames.payload.len(), &limits);
        let malformed = decode(frames, &limits).next().expect("one item").expect_err("it is too large");
        assert_eq!(dropped, malformed);
    }
    let foreign = super::super::oversized(b"GET / HTTP/1.1", 14, 1 << 20, &limits);
    assert_eq!(foreign.reason, super::super::Reason::Magic);
}

#[test]
fn batch_of_too_many_is_refused_whole() {
    let limits = Limits { batch_messages_max: 2, ..Limits::default() };
    let batch = encode_batch(&[Message::Heartbeat, Message::Heartbeat, Message::Drain]);
    let items = read(batch, &limits);
    let [Err(malformed)] = &items[..] else { panic!("{items:?}") };
    assert_eq!(malformed.code, ErrorCode::TooLarge);
    assert_eq!(
        malformed.to_string(),
        "BATCH: batch message count of 3 is over the limit of 2 (raise it with `batch_messages_max`)"
    );
}

#[test]
fn batched_message_over_a_limit_costs_only_itself() {
    let limits = Limits { metadata_bytes_max: 4, ..Limits::default() };
    let metadata = [("key".to_owned(), Bytes::from_static(b"value"))].into();
    let batch = encode_batch(&[Message::Request(Request { metadata, ..request() }), Message::Drain]);
    let items = read(batch, &limits);
    assert!(matches!(&items[..], [Err(Malformed { code: ErrorCode::TooLarge, .. }), Ok(Message::Drain)]), "{items:?}");
}

#[test]
fn limits_of_the_layout_say_that_no_setter_raises_them() {
    let long: String = "é".repeat(128);
    let subscribe = Message::Subscribe(Subscribe { topic: long.as_str().into(), wanted: true });
    let error = check(&subscribe, &Limits::default()).expect_err("256 bytes are too long");
    assert_eq!(error.to_string(), "topic of 256 bytes is over the limit of 255 bytes (fixed by the protocol)");
    let offers = Message::Ready(Ready { services: vec![service(4000, 20)], ..ready() });
    let error = check(&offers, &Limits::default()).expect_err("an offer has a length of 16 bits");
    assert_eq!((error.what, error.limit, error.setter), ("service offer", 65_535, ""));
}

#[test]
fn names_and_offers_that_do_not_fit_are_cut_to_valid_frames() {
    let long: String = "é".repeat(300);
    let subscribe = Message::Subscribe(Subscribe { topic: long.as_str().into(), wanted: true });
    let cut = Message::Subscribe(Subscribe { topic: "é".repeat(127).as_str().into(), wanted: true });
    assert_eq!(one(&subscribe), Ok(cut));
    let offers = Ready { services: vec![service(4000, 20), service(1, 4)], ..ready() };
    let limits = Limits { header_bytes_max: usize::MAX, ..Limits::default() };
    let items = read(encode(&Message::Ready(offers)), &limits);
    let [Ok(Message::Ready(read))] = &items[..] else { panic!("{items:?}") };
    assert_eq!(read.services[0].methods.len(), 65_521 / 32);
    assert_eq!(read.services[1], service(1, 4));
}

#[test]
fn long_detail_is_cut_and_its_error_arrives() {
    let reply = ErrorReply {
        call: CallId(7),
        partials: 0,
        code: ErrorCode::Panicked,
        maybe_executed: true,
        detail: "€".repeat(100_000),
        payload: Payload::default(),
    };
    assert_eq!(check(&Message::Error(reply.clone()), &Limits::default()), Ok(()));
    assert_eq!(
        one(&Message::Error(reply.clone())),
        Ok(Message::Error(ErrorReply { detail: "€".repeat(1365), ..reply }))
    );
}

/// Messages over one limit each, and their errors.
fn oversized() -> Vec<(Message, Limits, &'static str)> {
    let limits = Limits::default();
    let metadata: Metadata = [("a".into(), Bytes::from_static(b"12345")), ("b".into(), Bytes::new())].into();
    let two = Ready { services: vec![service(1, 4), service(2, 4)], ..ready() };
    vec![
        (
            Message::Final(reply(b"seventeen letters")),
            Limits { payload_bytes_max: 16, ..limits },
            "payload of 17 bytes is over the limit of 16 bytes (raise it with `payload_bytes_max` on both sides)",
        ),
        (
            Message::Request(Request { metadata, ..request() }),
            Limits { metadata_bytes_max: 16, ..limits },
            "metadata of 17 bytes is over the limit of 16 bytes (raise it with `metadata_bytes_max`)",
        ),
        (
            Message::Subscribe(Subscribe { topic: "weather".into(), wanted: true }),
            Limits { header_bytes_max: 39, ..limits },
            "header of 40 bytes is over the limit of 39 bytes (raise it with `header_bytes_max`)",
        ),
        (
            Message::Ready(two.clone()),
            Limits { services_max: 1, ..limits },
            "service count of 2 is over the limit of 1 (raise it with `services_max`)",
        ),
        (
            Message::Offer(OfferChange { changed: two.services.clone(), withdrawn: Vec::new() }),
            Limits { services_max: 1, ..limits },
            "service count of 2 is over the limit of 1 (raise it with `services_max`)",
        ),
        (
            Message::Offer(OfferChange { changed: Vec::new(), withdrawn: vec!["A".into(), "B".into()] }),
            Limits { services_max: 1, ..limits },
            "withdrawn count of 2 is over the limit of 1 (raise it with `services_max`)",
        ),
        (
            Message::Ready(two),
            Limits { methods_max: 2, ..limits },
            "method count of 3 is over the limit of 2 (raise it with `methods_max`)",
        ),
    ]
}

fn raise(limits: Limits, setter: &str, to: usize) -> Limits {
    match setter {
        "payload_bytes_max" => Limits { payload_bytes_max: to, ..limits },
        "metadata_bytes_max" => Limits { metadata_bytes_max: to, ..limits },
        "header_bytes_max" => Limits { header_bytes_max: to, ..limits },
        "services_max" => Limits { services_max: to, ..limits },
        "methods_max" => Limits { methods_max: to, ..limits },
        other => panic!("no such setter: {other}"),
    }
}

/// A service with this many methods and this many bytes in each name.
fn service(methods: usize, name_bytes: usize) -> ServiceOffer {
    let method = MethodOffer { name: "m".repeat(name_bytes).as_str().into(), idempotent: false, fingerprint: 0 };
    ServiceOffer { name: "Mass".into(), version: 1, methods: vec![method; methods] }
}
