//! PROTOCOL.md against the code: its bytes, its numbers, its defaults.

use super::super::kind::Kind;
use super::*;
use crate::proto::{
    dispatch::{Dispatcher, DispatcherConfig},
    outbox::Transmit,
    tests::start,
    worker::{Worker, WorkerConfig},
};

#[test]
fn bytes_in_the_document_are_what_the_code_writes() {
    for (name, messages) in messages() {
        assert_eq!(shown(&encode_batch(&messages)), shown(&document(name)), "{name}");
    }
}

#[test]
fn bytes_in_the_document_are_read_as_its_messages() {
    for (name, messages) in messages() {
        assert_eq!(all(document(name)), messages.into_iter().map(Ok).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn introductions_and_refusal_in_the_document_are_what_the_machines_send() {
    let now = start();
    let defaults = DispatcherConfig::default();
    let config = WorkerConfig {
        incarnation: ready().incarnation,
        seed: 0,
        heartbeats: defaults.heartbeats,
        backoff: defaults.backoff,
        limits: defaults.limits,
        credits: 64,
        window_bytes: defaults.window_bytes,
        hold_limits: Default::default(),
        drain_timeout: Duration::from_secs(30),
        services: ready().services,
        signatures: Vec::new(),
    };
    let mut worker = Worker::new(now, config, 1);
    let mut dispatcher = Dispatcher::new(DispatcherConfig { incarnation: answer().incarnation, ..defaults });
    // In a build with the default features; other builds have other codecs.
    let usual = |message| match message {
        Message::Ready(ready) => Message::Ready(Ready { codecs: answer().codecs, ..ready }),
        other => other,
    };
    let sent = |transmit: Option<Transmit>| usual(transmit.expect("something is sent").messages.remove(0));
    worker.handle_timeout(now);
    worker.handle_dialed(now, Peer(0));
    let introduction = sent(worker.poll_transmit());
    assert_eq!(encode(&introduction), document("READY of a worker"));
    dispatcher.handle_message(now, Peer(1), introduction);
    let answer = sent(dispatcher.poll_transmit());
    assert_eq!(encode(&answer), document("READY of a dispatcher"));
    worker.handle_message(now, Peer(0), answer);
    // Its open request keeps it from saying goodbye.
    worker.handle_message(now, Peer(0), Message::Request(Request { call: CallId(1), ..request() }));
    worker.drain(now);
    worker.handle_message(now, Peer(0), Message::Request(request()));
    let goodbyes = std::iter::from_fn(|| worker.poll_transmit()).flat_map(|transmit| transmit.messages);
    let refusal = goodbyes.into_iter().find(|message| matches!(message, Message::Error(_)));
    assert_eq!(refusal.map(|refusal| encode(&refusal)), Some(document("ERROR of a worker")));
}

#[test]
fn document_has_bytes_of_every_kind() {
    let names: Vec<_> = DOCUMENT.lines().filter_map(|line| line.strip_prefix("### A.")).collect();
    assert_eq!(names.len(), messages().len(), "the tests know every message of the appendix");
    for (kind, name) in Kind::NAMED {
        let of_kind = |title: &&str| title.split(' ').nth(1) == Some(name);
        let title = names.iter().copied().find(of_kind).unwrap_or_else(|| panic!("{name} is in the appendix"));
        let (_, title) = title.split_once(' ').expect("a number, then the name");
        assert_eq!(document(title).header[5], kind as u8, "{name}");
    }
}

#[test]
fn header_cut_short_anywhere_is_an_error() {
    for (name, _) in messages() {
        let Frames { header, payload } = document(name);
        for end in 0..header.len() {
            let items = all(Frames { header: header.slice(..end), payload: payload.clone() });
            assert!(matches!(items[..], [Err(_)]), "{name} cut at {end}: {items:?}");
        }
    }
}

#[test]
fn payload_cut_short_anywhere_is_a_shorter_payload() {
    for (name, messages) in messages().into_iter().filter(|(name, _)| *name != "BATCH") {
        let Frames { header, payload } = document(name);
        for end in 0..payload.len() {
            let items = all(Frames { header: header.clone(), payload: payload.slice(..end) });
            let [Ok(message)] = &items[..] else { panic!("{name} cut at {end}: {items:?}") };
            assert_eq!(message.payload_bytes(), end);
            assert_eq!(encode(message).header, encode(&messages[0]).header);
        }
    }
}

#[test]
fn batch_cut_short_anywhere_keeps_what_came_whole() {
    let Frames { header, payload } = document("BATCH");
    let whole = messages().into_iter().find(|(name, _)| *name == "BATCH").expect("it is there").1;
    for end in 0..payload.len() {
        let items = all(Frames { header: header.clone(), payload: payload.slice(..end) });
        let kept = usize::from(end >= batched_bytes(&whole[0]));
        assert_eq!(items.len(), kept + 1, "cut at {end}");
        assert!(items[..kept].iter().eq(whole[..kept].iter().cloned().map(Ok).collect::<Vec<_>>().iter()));
        assert!(items[kept].is_err(), "cut at {end}: {items:?}");
    }
}

#[test]
fn document_numbers_the_kinds_as_the_code_does() {
    let listed = rows("## 4.", "## 5.").filter(|row| row[0].parse::<u8>().is_ok());
    let listed: Vec<_> = listed.map(|row| (row[0].to_owned(), row[1].to_owned())).collect();
    let known: Vec<_> = Kind::NAMED.map(|(kind, name)| ((kind as u8).to_string(), name.to_owned())).into();
    assert_eq!(listed, known);
}

#[test]
fn document_numbers_the_errors_as_the_code_does() {
    let listed: Vec<_> = rows("**Errors**", "## 9.").filter(|row| row[0].parse::<u8>().is_ok()).collect();
    for number in 1..=u8::MAX {
        let row = listed.iter().find(|row| row[0] == number.to_string());
        let words = |code| format!("{code:?}").to_lowercase();
        assert_eq!(row.map(|row| row[1].replace(' ', "")), ErrorCode::from_wire(number).map(words), "code {number}");
    }
}

#[test]
fn document_gives_the_limits_their_defaults() {
    let listed: Vec<_> =
        rows("## 13.", "## 14.").map(|row| (row[0].replace('`', ""), row[1].replace(',', ""))).collect();
    let Limits {
        header_bytes_max,
        metadata_bytes_max,
        payload_bytes_max,
        batch_messages_max,
        services_max,
        methods_max,
    } = Limits::default();
    for (name, value) in [
        ("header_bytes_max", header_bytes_max),
        ("metadata_bytes_max", metadata_bytes_max),
        ("payload_bytes_max", payload_bytes_max),
        ("batch_messages_max", batch_messages_max),
        ("services_max", services_max),
        ("methods_max", methods_max),
    ] {
        assert!(listed.contains(&(name.to_owned(), value.to_string())), "{name} is {value}: {listed:?}");
    }
}

/// The messages of the document's appendix, by title.
pub(super) fn messages() -> Vec<(&'static str, Vec<Message>)> {
    let call = CallId(0x0102_0304_0506_0708);
    let payload = |codec, bytes: &'static [u8]| Payload { codec, bytes: Bytes::from_static(bytes) };
    let error = ErrorReply {
        call,
        partials: 1,
        code: ErrorCode::Application,
        maybe_executed: true,
        detail: String::new(),
        payload: payload(Codec::MessagePack, b"\x81\xa6reason\xa4slow"),
    };
    let refusal = ErrorReply {
        partials: 0,
        code: ErrorCode::Refused,
        maybe_executed: false,
        detail: "the worker drains".into(),
        payload: Payload::default(),
        ..error.clone()
    };
    let trace = Bytes::from_static(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let event = Event { topic: "weather".into(), sequence: 7, payload: payload(Codec::Json, br#"{"rain":true}"#) };
    let method = MethodOffer { name: "greet".into(), idempotent: false, fingerprint: 0xf0ba_12c0_45b0_6998 };
    let change = OfferChange {
        changed: vec![ServiceOffer { name: "Greeter".into(), version: 2, methods: vec![method] }],
        withdrawn: vec!["Demo".into()],
    };
    let pong = FinalReply { call: CallId(1), ..reply(b"\x04pong") };
    [
        ("READY of a worker", Message::Ready(ready())),
        ("READY of a dispatcher", Message::Ready(answer())),
        ("REQUEST", Message::Request(Request { metadata: [("traceparent".into(), trace)].into(), ..request() })),
        (
            "PARTIAL",
            Message::Partial(PartialReply { call, sequence: 0, payload: payload(Codec::Json, b"\"started\"") }),
        ),
        ("FINAL", Message::Final(FinalReply { call, partials: 1, ..reply(b"\x01\x01") })),
        ("ERROR of a method", Message::Error(error)),
        ("ERROR of a worker", Message::Error(refusal)),
        ("CANCEL", Message::Cancel(call)),
        ("CREDIT", Message::Credit(128)),
        ("EVENT", Message::Event(event)),
        ("SUBSCRIBE", Message::Subscribe(Subscribe { topic: "weather".into(), wanted: true })),
        ("HEARTBEAT", Message::Heartbeat),
        ("DRAIN", Message::Drain),
        ("GOODBYE", Message::Goodbye),
    ]
    .map(|(name, message)| (name, vec![message]))
    .into_iter()
    .chain([
        ("BATCH", vec![Message::Final(pong), Message::Heartbeat]),
        ("ACK", vec![Message::Ack(1 << 20)]),
        ("OFFER", vec![Message::Offer(change)]),
    ])
    .collect()
}

fn answer() -> Ready {
    let incarnation = Uuid::from_u128(0xffee_ddcc_bbaa_9988_7766_5544_3322_1100);
    let capabilities = Capabilities::BATCH.and(Capabilities::OFFERS);
    Ready { role: Role::Dispatcher, incarnation, capabilities, credits: 0, services: Vec::new(), ..ready() }
}

/// The frames under a title of the document's appendix.
fn document(title: &str) -> Frames {
    let is_title =
        |line: &str| line.strip_prefix("### A.").and_then(|rest| rest.split_once(' ')) == Some((number(line), title));
    let mut lines = DOCUMENT.lines().skip_while(|line| !is_title(line));
    assert!(lines.any(|line| line == "```text"), "{title} is in the appendix");
    let (mut header, mut payload, mut is_payload) = (Vec::new(), Vec::new(), false);
    for line in lines.take_while(|line| *line != "```") {
        match line {
            "header" => is_payload = false,
            "payload" => is_payload = true,
            bytes if is_payload => payload.extend(hexadecimal(bytes)),
            bytes => header.extend(hexadecimal(bytes)),
        }
    }
    Frames { header: header.into(), payload: payload.into() }
}

fn number(line: &str) -> &str {
    line.trim_start_matches("### A.").split(' ').next().unwrap_or_default()
}

fn hexadecimal(line: &str) -> impl Iterator<Item = u8> {
    let bytes = line.split(';').next().unwrap_or_default().split_whitespace();
    bytes.map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits"))
}

/// The table rows between the lines that start with these texts.
fn rows(from: &'static str, to: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    let section =
        DOCUMENT.lines().skip_while(move |line| !line.starts_with(from)).take_while(move |line| !line.starts_with(to));
    section.filter_map(|line| Some(line.strip_prefix("| ")?.split('|').map(str::trim).collect()))
}

fn shown(frames: &Frames) -> (String, String) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x} ")).collect();
    (hex(&frames.header), hex(&frames.payload))
}

const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../PROTOCOL.md"));
