//! Messages -> frames. Sizes are counted first, so that each frame is one allocation of its exact size.

use std::sync::Arc;

use crate::proto::message::{
    Codec, ErrorCode, ErrorReply, Message, Metadata, MethodOffer, OfferChange, Payload, Ready, Request, ServiceOffer,
};

use super::{
    Frames, U8_MAX, U16_MAX,
    fixed::{AS_DECLARED, FAIL_FAST, FIXED_BYTES, Fixed, IDEMPOTENT, MAYBE_EXECUTED, WANTED, micros},
    kind::Kind,
};

/// The frames of one message. The payload is shared, not copied.
///
/// The frames are always well-formed: names and lists of a message that [`check`](super::check) refuses are cut to the
/// lengths that the wire can express. The detail of an error is cut at 4 KiB, and `check` accepts it: a long
/// explanation must not lose the error.
pub fn encode(message: &Message) -> Frames {
    let mut header = Vec::with_capacity(header_bytes(message));
    write_header(message, &mut header);
    Frames { header: header.into(), payload: payload(message).map(|payload| payload.bytes.clone()).unwrap_or_default() }
}

/// The frames of a BATCH of these messages; a single message goes alone (`PROTOCOL.md` §11).
///
/// The caller makes sure that they are few and small, and that the peer reads BATCH: the sum of their [`batched_bytes`]
/// counts as a payload for the peer's limit.
pub fn encode_batch(messages: &[Message]) -> Frames {
    if let [message] = messages {
        return encode(message);
    }
    let mut header = Vec::with_capacity(FIXED_BYTES + 4);
    Fixed::of(Kind::Batch).write(&mut header);
    header.extend_from_slice(&u32::try_from(messages.len()).unwrap_or(u32::MAX).to_be_bytes());
    let mut body = Vec::with_capacity(messages.iter().map(batched_bytes).sum());
    for message in messages {
        write_batched(message, &mut body);
    }
    Frames { header: header.into(), payload: body.into() }
}

/// What a message counts in a byte window (`PROTOCOL.md` §9): its frames, and 64 bytes for itself.
pub fn window_bytes(message: &Message) -> u64 {
    fixed(message).kind.window_bytes(header_bytes(message), payload(message).map_or(0, |payload| payload.bytes.len()))
}

/// The bytes of a message in the body of a BATCH.
pub fn batched_bytes(message: &Message) -> usize {
    4 + header_bytes(message) + 4 + payload(message).map_or(0, |payload| payload.bytes.len())
}

/// The size of the message's header frame.
pub(crate) fn header_bytes(message: &Message) -> usize {
    FIXED_BYTES
        + match message {
            Message::Ready(m) => ready_bytes(m),
            Message::Offer(m) => {
                services_bytes(&m.changed) + 2 + withdrawn(m).iter().map(|name| name_bytes(name)).sum::<usize>()
            }
            Message::Request(m) => request_field_bytes(&m.service, &m.method, &m.metadata),
            Message::Error(m) => 1 + 2 + detail(m).len(),
            Message::Credit(_) => 4,
            Message::Ack(_) => 8,
            Message::Event(m) => name_bytes(&m.topic) + 8,
            Message::Subscribe(m) => name_bytes(&m.topic),
            Message::Partial(_) | Message::Final(_) | Message::Cancel(_) => 0,
            Message::Heartbeat | Message::Patience(_) | Message::Drain | Message::Goodbye => 0,
        }
}

/// The size of a request's header frame.
pub(super) fn request_bytes(service: &str, method: &str, metadata: &Metadata) -> usize {
    FIXED_BYTES + request_field_bytes(service, method, metadata)
}

/// The size of the header frame of a READY with every codec and no service.
pub(super) fn bare_ready_bytes() -> usize {
    FIXED_BYTES + READY_BYTES + Codec::ALL.len() + 2
}

/// The bytes that a service without methods adds to a READY.
pub(crate) fn service_offer_bytes(name: &str) -> usize {
    2 + name_bytes(name) + 4 + 2
}

/// The bytes that a method adds to a READY.
pub(crate) fn method_offer_bytes(name: &str) -> usize {
    2 + name_bytes(name) + 1 + 8
}

/// The size of the metadata on the wire, without the count before it.
pub(crate) fn metadata_bytes(metadata: &Metadata) -> usize {
    metadata.iter().take(U16_MAX).map(|(key, value)| name_bytes(key) + 4 + value.len()).sum()
}

/// The size of a service offer before any cut, without the length before it.
pub(super) fn offer_bytes_uncut(service: &ServiceOffer) -> usize {
    offer_bytes(service, &service.methods)
}

fn request_field_bytes(service: &str, method: &str, metadata: &Metadata) -> usize {
    8 + name_bytes(service) + name_bytes(method) + 2 + metadata_bytes(metadata)
}

fn ready_bytes(ready: &Ready) -> usize {
    READY_BYTES + codecs(ready).len() + services_bytes(&ready.services)
}

fn services_bytes(offers: &[ServiceOffer]) -> usize {
    2 + services(offers).iter().map(|service| 2 + offer_bytes(service, methods(service))).sum::<usize>()
}

fn offer_bytes(service: &ServiceOffer, methods: &[MethodOffer]) -> usize {
    name_bytes(&service.name) + 4 + 2 + methods.iter().map(|method| 2 + method_bytes(method)).sum::<usize>()
}

fn method_bytes(method: &MethodOffer) -> usize {
    name_bytes(&method.name) + 1 + 8
}

fn name_bytes(name: &str) -> usize {
    1 + cut(name, U8_MAX).len()
}

fn write_batched(message: &Message, body: &mut Vec<u8>) {
    let start = body.len();
    body.extend_from_slice(&[0; 4]);
    write_header(message, body);
    let length = prefix(body.len() - start - 4);
    body[start..start + 4].copy_from_slice(&length);
    let payload = payload(message).map_or(&[][..], |payload| &payload.bytes);
    body.extend_from_slice(&prefix(payload.len()));
    body.extend_from_slice(payload);
}

fn write_header(message: &Message, out: &mut Vec<u8>) {
    let start = out.len();
    fixed(message).write(out);
    match message {
        Message::Ready(m) => write_ready(m, out),
        Message::Offer(m) => write_offer_change(m, out),
        Message::Request(m) => write_request(m, out),
        Message::Error(m) => write_error(m, out),
        Message::Credit(credits) => out.extend_from_slice(&credits.to_be_bytes()),
        Message::Ack(bytes) => out.extend_from_slice(&bytes.to_be_bytes()),
        Message::Event(m) => {
            write_name(&m.topic, out);
            out.extend_from_slice(&m.sequence.to_be_bytes());
        }
        Message::Subscribe(m) => write_name(&m.topic, out),
        Message::Partial(_) | Message::Final(_) | Message::Cancel(_) => {}
        Message::Heartbeat | Message::Patience(_) | Message::Drain | Message::Goodbye => {}
    }
    debug_assert_eq!(out.len() - start, header_bytes(message), "a header has the size that was counted for it");
}

fn fixed(message: &Message) -> Fixed {
    let codec = payload(message).map_or(0, |payload| payload.codec as u8);
    match message {
        Message::Ready(_) => Fixed::of(Kind::Ready),
        Message::Offer(_) => Fixed::of(Kind::Offer),
        Message::Request(m) => {
            let flags = [(m.idempotent, IDEMPOTENT), (m.as_declared, AS_DECLARED), (m.fail_fast, FAIL_FAST)];
            let flags = flags.into_iter().filter(|(is_set, _)| *is_set).fold(0, |flags, (_, flag)| flags | flag);
            let (remaining, attempt) = (m.remaining, m.attempt);
            Fixed { flags, remaining, attempt, codec, ..Fixed::of_call(Kind::Request, m.call) }
        }
        Message::Partial(m) => Fixed { codec, sequence: m.sequence, ..Fixed::of_call(Kind::Partial, m.call) },
        Message::Final(m) => Fixed { codec, sequence: m.partials, ..Fixed::of_call(Kind::Final, m.call) },
        Message::Error(m) => {
            let flags = if m.maybe_executed { MAYBE_EXECUTED } else { 0 };
            Fixed { flags, codec: error_codec(m), sequence: m.partials, ..Fixed::of_call(Kind::Error, m.call) }
        }
        Message::Cancel(call) => Fixed::of_call(Kind::Cancel, *call),
        Message::Credit(_) => Fixed::of(Kind::Credit),
        Message::Ack(_) => Fixed::of(Kind::Ack),
        Message::Event(_) => Fixed { codec, ..Fixed::of(Kind::Event) },
        Message::Subscribe(m) => Fixed { flags: if m.wanted { WANTED } else { 0 }, ..Fixed::of(Kind::Subscribe) },
        Message::Heartbeat => Fixed::of(Kind::Heartbeat),
        Message::Patience(remaining) => Fixed { remaining: *remaining, ..Fixed::of(Kind::Heartbeat) },
        Message::Drain => Fixed::of(Kind::Drain),
        Message::Goodbye => Fixed::of(Kind::Goodbye),
    }
}

/// An error without a value of its own names no codec.
fn error_codec(error: &ErrorReply) -> u8 {
    let is_plain = error.code != ErrorCode::Application && error.payload == Payload::default();
    if is_plain { 0 } else { error.payload.codec as u8 }
}

fn write_ready(ready: &Ready, out: &mut Vec<u8>) {
    out.push(ready.role as u8);
    out.extend_from_slice(ready.incarnation.as_bytes());
    out.extend_from_slice(&ready.capabilities.0.to_be_bytes());
    out.extend_from_slice(&micros(ready.interval).to_be_bytes());
    out.extend_from_slice(&ready.payload_bytes_max.to_be_bytes());
    out.extend_from_slice(&ready.credits.to_be_bytes());
    out.extend_from_slice(&ready.window_bytes.to_be_bytes());
    out.push(codecs(ready).len() as u8);
    out.extend(codecs(ready).iter().map(|codec| *codec as u8));
    write_services(&ready.services, out);
}

fn write_offer_change(change: &OfferChange, out: &mut Vec<u8>) {
    write_services(&change.changed, out);
    out.extend_from_slice(&(withdrawn(change).len() as u16).to_be_bytes());
    withdrawn(change).iter().for_each(|name| write_name(name, out));
}

fn write_services(offers: &[ServiceOffer], out: &mut Vec<u8>) {
    out.extend_from_slice(&(services(offers).len() as u16).to_be_bytes());
    services(offers).iter().for_each(|service| write_offer(service, out));
}

fn write_offer(service: &ServiceOffer, out: &mut Vec<u8>) {
    let methods = methods(service);
    out.extend_from_slice(&(offer_bytes(service, methods) as u16).to_be_bytes());
    write_name(&service.name, out);
    out.extend_from_slice(&service.version.to_be_bytes());
    out.extend_from_slice(&(methods.len() as u16).to_be_bytes());
    for method in methods {
        out.extend_from_slice(&(method_bytes(method) as u16).to_be_bytes());
        write_name(&method.name, out);
        out.push(u8::from(method.idempotent));
        out.extend_from_slice(&method.fingerprint.to_be_bytes());
    }
}

fn write_request(request: &Request, out: &mut Vec<u8>) {
    out.extend_from_slice(&request.fingerprint.to_be_bytes());
    write_name(&request.service, out);
    write_name(&request.method, out);
    out.extend_from_slice(&(request.metadata.len().min(U16_MAX) as u16).to_be_bytes());
    for (key, value) in request.metadata.iter().take(U16_MAX) {
        write_name(key, out);
        out.extend_from_slice(&prefix(value.len()));
        out.extend_from_slice(value);
    }
}

fn write_error(error: &ErrorReply, out: &mut Vec<u8>) {
    let detail = detail(error);
    out.push(error.code as u8);
    out.extend_from_slice(&(detail.len() as u16).to_be_bytes());
    out.extend_from_slice(detail.as_bytes());
}

fn write_name(name: &str, out: &mut Vec<u8>) {
    let name = cut(name, U8_MAX);
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
}

fn payload(message: &Message) -> Option<&Payload> {
    match message {
        Message::Request(m) => Some(&m.payload),
        Message::Partial(m) => Some(&m.payload),
        Message::Final(m) => Some(&m.payload),
        Message::Error(m) => Some(&m.payload),
        Message::Event(m) => Some(&m.payload),
        _ => None,
    }
}

fn codecs(ready: &Ready) -> &[Codec] {
    &ready.codecs[..ready.codecs.len().min(U8_MAX)]
}

fn services(offers: &[ServiceOffer]) -> &[ServiceOffer] {
    &offers[..offers.len().min(U16_MAX)]
}

fn withdrawn(change: &OfferChange) -> &[Arc<str>] {
    &change.withdrawn[..change.withdrawn.len().min(U16_MAX)]
}

/// The service's methods, as many as an offer's length can cover.
fn methods(service: &ServiceOffer) -> &[MethodOffer] {
    let mut size = offer_bytes(service, &[]);
    let fits = service.methods.iter().take_while(|method| {
        size += 2 + method_bytes(method);
        size <= U16_MAX
    });
    &service.methods[..fits.count()]
}

fn detail(error: &ErrorReply) -> &str {
    cut_detail(&error.detail)
}

/// An error's detail, cut to what is sent and read.
pub(super) fn cut_detail(detail: &str) -> &str {
    cut(detail, DETAIL_BYTES_MAX)
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// A length in four bytes. `check` refuses longer values.
fn prefix(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

/// READY's fields before its lists, with the count of codecs.
const READY_BYTES: usize = 1 + 16 + 4 + 8 + 8 + 4 + 8 + 1;
/// 4 KiB: a paragraph for people, and a small part of a header's room.
const DETAIL_BYTES_MAX: usize = 4096;
