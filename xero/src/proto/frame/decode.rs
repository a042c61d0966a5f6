//! Frames -> messages. A message copies what it keeps of its header, because a slice would pin the transport's whole
//! receive buffer. Payloads are kept as slices, except small ones in a BATCH, which would pin the whole batch.

use std::{
    iter::{FusedIterator, from_fn},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use uuid::Uuid;

use crate::proto::{
    fault::{Fault, planted},
    message::{
        Capabilities, Codec, ErrorCode, ErrorReply, Event, FinalReply, Message, Metadata, MethodOffer, OfferChange,
        PartialReply, Payload, Ready, Request, Role, ServiceOffer, Subscribe,
    },
};

use super::{
    Frames, Limits,
    encode::{cut_detail, window_bytes},
    fixed::{AS_DECLARED, FAIL_FAST, Fixed, IDEMPOTENT, MAYBE_EXECUTED, WANTED},
    kind::Kind,
    malformed::{BATCH_ANNOUNCED_MAX, Malformed, Reason},
    names::KnownNames,
    reader::Reader,
};

/// Reads one pair of frames: one message, or all messages of a BATCH.
///
/// An unreadable message costs only itself, even within a batch, as long as the structure around it is sound. Nothing is
/// read after a broken structure, which [`Malformed::breaks_batch`] reports.
pub fn decode(frames: Frames, limits: &Limits) -> Decoded {
    Decoded { rest: Rest::Frames(frames), limits: *limits }
}

/// The error of a message over a limit, of which the transport has kept only the start of the header.
pub fn oversized(header: &[u8], header_bytes: usize, payload_bytes: usize, limits: &Limits) -> Malformed {
    let fixed = match read_fixed(header, payload_bytes) {
        Ok((fixed, _)) => fixed,
        Err(malformed) => return malformed,
    };
    match limits.header(header_bytes).and(limits.payload(payload_bytes)) {
        Err(too_large) => {
            let window_bytes = fixed.kind.window_bytes(header_bytes, payload_bytes);
            Malformed { window_bytes, ..fixed.malformed(too_large.into()) }
        }
        // A transport with limits of its own; the call must end all the same.
        Ok(()) => fixed.malformed(Reason::FrameCount(0)),
    }
}

/// The bytes of the offers in these frames: of the headers of READY and OFFER, as far as they are within the limits.
pub fn announcing_bytes(frames: &Frames, limits: &Limits) -> usize {
    let announced = |header: &[u8]| match Fixed::read(header) {
        Ok((fixed, _)) if matches!(fixed.kind, Kind::Ready | Kind::Offer) => header.len(),
        _ => 0,
    };
    let within = |header: &[u8]| if header.len() > limits.header_bytes_max { 0 } else { announced(header) };
    match Fixed::read(&frames.header) {
        Ok((fixed, fields_at)) if fixed.kind == Kind::Batch => {
            let count = Reader::new(&frames.header, fields_at).u32("batch count").unwrap_or(0) as usize;
            let mut reader = Reader::new(&frames.payload, 0);
            let read = || Some((reader.blob("batched header").ok()?, reader.blob("batched payload").ok()?));
            let count = if count > limits.batch_messages_max { 0 } else { count };
            from_fn(read).take(count).map(|(header, _)| within(header)).sum()
        }
        _ => within(&frames.header),
    }
}

/// A received message.
#[derive(Clone, Debug, PartialEq)]
pub struct Inbound {
    /// Its content.
    pub message: Message,
    /// What its frames count in a byte window (`PROTOCOL.md` §9).
    ///
    /// A later version may have written more into them than this one reads.
    pub window_bytes: u64,
}

/// Counts the message as from a peer of this version.
impl From<Message> for Inbound {
    fn from(message: Message) -> Self {
        Self { window_bytes: window_bytes(&message), message }
    }
}

/// The messages of one pair of frames, in their order.
#[derive(Debug)]
pub struct Decoded {
    rest: Rest,
    limits: Limits,
}

impl Iterator for Decoded {
    type Item = Result<Inbound, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_next(&mut |name| name.into())
    }
}

impl FusedIterator for Decoded {}

impl Decoded {
    /// The next message, as [`Self::next`] reads it; its names are shared with earlier requests.
    pub fn next_known(&mut self, names: &mut KnownNames) -> Option<Result<Inbound, Malformed>> {
        self.read_next(&mut |name| names.share(name))
    }

    fn read_next(&mut self, share: &mut Share<'_>) -> Option<Result<Inbound, Malformed>> {
        if let Rest::Batch(batch) = &mut self.rest
            && batch.left > 0
        {
            let item = batch.read_next(&self.limits, share);
            if matches!(&item, Err(malformed) if malformed.breaks_batch()) {
                self.rest = Rest::Nothing;
            }
            return Some(item);
        }
        match std::mem::replace(&mut self.rest, Rest::Nothing) {
            Rest::Nothing => None,
            Rest::Batch(batch) => end_of_batch(batch.body.len() - batch.offset).err().map(Err),
            Rest::Frames(frames) => match self.read_frames(frames, share) {
                Ok(Some(message)) => Some(Ok(message)),
                Ok(None) => self.read_next(share),
                Err(malformed) => Some(Err(malformed)),
            },
        }
    }

    /// Reads a message that arrived alone; `None` for a batch, whose messages follow.
    fn read_frames(&mut self, frames: Frames, share: &mut Share<'_>) -> Result<Option<Inbound>, Malformed> {
        let Frames { header, payload } = frames;
        let (fixed, fields_at) = read_fixed(&header, payload.len())?;
        if fixed.kind != Kind::Batch {
            return read_message(&fixed, fields_at, &header, payload, &self.limits, share).map(Some);
        }
        let read_count = || {
            self.limits.header(header.len())?;
            self.limits.payload(payload.len())?;
            let count = Reader::new(&header, fields_at).u32("batch count")?;
            self.limits.batch(usize::try_from(count).unwrap_or(usize::MAX))?;
            if count == 0 { Err(Reason::EmptyBatch) } else { Ok(count) }
        };
        let left = read_count().map_err(of_batch)?;
        self.rest = Rest::Batch(Batch { body: payload, offset: 0, left, announced: 0 });
        Ok(None)
    }
}

/// Turns the text that was read into a name.
type Share<'a> = dyn FnMut(&str) -> Arc<str> + 'a;

#[derive(Debug)]
enum Rest {
    Nothing,
    Frames(Frames),
    Batch(Batch),
}

/// The messages of a BATCH that have not been read.
#[derive(Debug)]
struct Batch {
    body: Bytes,
    offset: usize,
    left: u32,
    /// The services and methods that were announced so far.
    announced: usize,
}

impl Batch {
    /// Reads the next message; there is one.
    fn read_next(&mut self, limits: &Limits, share: &mut Share<'_>) -> Result<Inbound, Malformed> {
        if self.announced > BATCH_ANNOUNCED_MAX {
            return Err(of_batch(Reason::BatchAnnounces));
        }
        let mut reader = Reader::new(&self.body, self.offset);
        let header = reader.blob("batched header").map_err(of_batch)?;
        let payload = reader.blob("batched payload").map_err(of_batch)?;
        (self.offset, self.left) = (reader.offset(), self.left - 1);
        let payload = kept_payload(&self.body, self.offset - payload.len()..self.offset);
        let read = read_batched(header, payload, limits, share)?;
        self.announced += read.message.announced();
        Ok(read)
    }
}

/// A payload within a body. A slice keeps the whole body in memory, so a payload of less than half the body is copied.
fn kept_payload(body: &Bytes, range: Range<usize>) -> Bytes {
    match range.len() < body.len() / 2 && !planted(Fault::BatchPinned) {
        true => Bytes::copy_from_slice(&body[range]),
        false => body.slice(range),
    }
}

fn read_batched(header: &[u8], payload: Bytes, limits: &Limits, share: &mut Share<'_>) -> Result<Inbound, Malformed> {
    let (fixed, fields_at) = read_fixed(header, payload.len())?;
    read_message(&fixed, fields_at, header, payload, limits, share)
}

/// Reads the fixed header. A message whose kind it names counts in a window although its fields cannot be found.
fn read_fixed(header: &[u8], payload_bytes: usize) -> Result<(Fixed, usize), Malformed> {
    Fixed::read(header).map_err(|malformed| match malformed.kind.and_then(Kind::from_wire) {
        Some(kind) => Malformed { window_bytes: kind.window_bytes(header.len(), payload_bytes), ..malformed },
        None => malformed,
    })
}

fn read_message(
    fixed: &Fixed,
    fields_at: usize,
    header: &[u8],
    payload: Bytes,
    limits: &Limits,
    share: &mut Share<'_>,
) -> Result<Inbound, Malformed> {
    let window_bytes = fixed.kind.window_bytes(header.len(), payload.len());
    let read = || {
        limits.header(header.len())?;
        limits.payload(payload.len())?;
        read_kind(fixed, Reader::new(header, fields_at), payload, limits, share)
    };
    match read() {
        Ok(message) => Ok(Inbound { message, window_bytes }),
        Err(reason) => Err(Malformed { window_bytes, ..fixed.malformed(reason) }),
    }
}

fn read_kind(
    fixed: &Fixed,
    mut fields: Reader<'_>,
    payload: Bytes,
    limits: &Limits,
    share: &mut Share<'_>,
) -> Result<Message, Reason> {
    let (call, sequence) = (fixed.call, fixed.sequence);
    if call.0 == 0 && fixed.kind.needs_call() {
        return Err(Reason::NoCall);
    }
    if fixed.kind == Kind::Partial && sequence == u32::MAX {
        return Err(Reason::PartialsBeyondCount);
    }
    Ok(match fixed.kind {
        Kind::Ready => Message::Ready(read_ready(fields, limits)?),
        Kind::Offer => Message::Offer(read_offer_change(fields, limits)?),
        Kind::Request => Message::Request(read_request(fixed, fields, payload, limits, share)?),
        Kind::Partial => Message::Partial(PartialReply { call, sequence, payload: read_payload(fixed, payload)? }),
        Kind::Final => Message::Final(FinalReply { call, partials: sequence, payload: read_payload(fixed, payload)? }),
        Kind::Error => Message::Error(read_error(fixed, fields, payload)?),
        Kind::Cancel => Message::Cancel(call),
        Kind::Credit => Message::Credit(fields.u32("credits")?),
        Kind::Ack => Message::Ack(fields.u64("acknowledged bytes")?),
        Kind::Event => Message::Event(Event {
            topic: fields.name("topic")?.into(),
            sequence: fields.u64("event sequence")?,
            payload: read_payload(fixed, payload)?,
        }),
        Kind::Subscribe => {
            Message::Subscribe(Subscribe { topic: fields.name("topic")?.into(), wanted: fixed.has(WANTED) })
        }
        Kind::Heartbeat if fixed.remaining.is_zero() => Message::Heartbeat,
        Kind::Heartbeat => Message::Patience(fixed.remaining),
        Kind::Drain => Message::Drain,
        Kind::Goodbye => Message::Goodbye,
        Kind::Batch => return Err(Reason::NestedBatch),
    })
}

fn read_ready(mut fields: Reader<'_>, limits: &Limits) -> Result<Ready, Reason> {
    Ok(Ready {
        role: read_role(&mut fields)?,
        incarnation: Uuid::from_bytes(fields.array("incarnation")?),
        capabilities: Capabilities(fields.u32("capabilities")?),
        interval: Duration::from_micros(fields.u64("interval")?),
        payload_bytes_max: fields.u64("payload maximum")?,
        credits: fields.u32("credits")?,
        window_bytes: fields.u64("byte window")?,
        codecs: read_codecs(&mut fields)?,
        services: read_services(&mut fields, limits)?,
    })
}

fn read_role(fields: &mut Reader<'_>) -> Result<Role, Reason> {
    let (field, offset) = ("role", fields.offset());
    let value = fields.u8(field)?;
    let known = [Role::Dispatcher, Role::Worker, Role::Client].into_iter().find(|role| *role as u8 == value);
    known.ok_or(Reason::Unknown { field, offset, value })
}

/// Skips codecs that this version does not know.
fn read_codecs(fields: &mut Reader<'_>) -> Result<Vec<Codec>, Reason> {
    let count = fields.u8("codec count")?;
    let numbers = fields.take("codecs", count.into())?;
    Ok(numbers.iter().filter_map(|number| Codec::from_wire(*number)).collect())
}

fn read_services(fields: &mut Reader<'_>, limits: &Limits) -> Result<Vec<ServiceOffer>, Reason> {
    let count = usize::from(fields.u16("service count")?);
    limits.services(count)?;
    let mut services = Vec::with_capacity(fields.room(count, SERVICE_BYTES_MIN));
    let mut methods = 0;
    for _ in 0..count {
        let offer = fields.part("service offer")?;
        services.push(read_service(offer, &mut methods, limits)?);
    }
    Ok(services)
}

fn read_offer_change(mut fields: Reader<'_>, limits: &Limits) -> Result<OfferChange, Reason> {
    let changed = read_services(&mut fields, limits)?;
    let count = usize::from(fields.u16("withdrawn count")?);
    limits.withdrawn(count)?;
    let mut withdrawn = Vec::with_capacity(fields.room(count, NAME_BYTES_MIN));
    for _ in 0..count {
        withdrawn.push(fields.name("withdrawn service")?.into());
    }
    Ok(OfferChange { changed, withdrawn })
}

fn read_service(mut offer: Reader<'_>, methods_before: &mut usize, limits: &Limits) -> Result<ServiceOffer, Reason> {
    let name = offer.name("service name")?.into();
    let version = offer.u32("service version")?;
    let count = usize::from(offer.u16("method count")?);
    *methods_before += count;
    limits.methods(*methods_before)?;
    let mut methods = Vec::with_capacity(offer.room(count, METHOD_BYTES_MIN));
    for _ in 0..count {
        methods.push(read_method(offer.part("method offer")?)?);
    }
    Ok(ServiceOffer { name, version, methods })
}

fn read_method(mut offer: Reader<'_>) -> Result<MethodOffer, Reason> {
    let name = offer.name("method name")?.into();
    let idempotent = offer.u8("method flags")? & 1 != 0;
    Ok(MethodOffer { name, idempotent, fingerprint: offer.u64("fingerprint")? })
}

fn read_request(
    fixed: &Fixed,
    mut fields: Reader<'_>,
    payload: Bytes,
    limits: &Limits,
    share: &mut Share<'_>,
) -> Result<Request, Reason> {
    let fingerprint = fields.u64("fingerprint")?;
    Ok(Request {
        call: fixed.call,
        attempt: fixed.attempt,
        idempotent: fixed.has(IDEMPOTENT),
        as_declared: fixed.has(AS_DECLARED),
        fail_fast: fixed.has(FAIL_FAST),
        service: share(fields.name("service name")?),
        method: share(fields.name("method name")?),
        fingerprint,
        remaining: fixed.remaining,
        metadata: read_metadata(&mut fields, limits)?,
        payload: read_payload(fixed, payload)?,
    })
}

fn read_metadata(fields: &mut Reader<'_>, limits: &Limits) -> Result<Metadata, Reason> {
    let count = fields.u16("metadata count")?;
    let start = fields.offset();
    let mut metadata = Metadata::new();
    for _ in 0..count {
        let key = fields.name("metadata key")?;
        let offset = fields.offset() - key.len();
        let value = fields.blob("metadata value")?;
        limits.metadata(fields.offset() - start)?;
        if metadata.insert(key.into(), Bytes::copy_from_slice(value)).is_some() {
            return Err(Reason::RepeatedKey { offset });
        }
    }
    Ok(metadata)
}

fn read_error(fixed: &Fixed, mut fields: Reader<'_>, payload: Bytes) -> Result<ErrorReply, Reason> {
    let number = fields.u8("error code")?;
    let detail = cut_detail(fields.long_text("detail")?);
    // A later version's error must end its call here too, and its flag carries the most important part.
    let (code, detail) = match ErrorCode::from_wire(number) {
        Some(code) => (code, detail.to_owned()),
        None => (ErrorCode::Malformed, format!("error code {number}, unknown in this version: {detail}")),
    };
    let is_plain = code != ErrorCode::Application && fixed.codec == 0 && payload.is_empty();
    let payload = if is_plain { Payload::default() } else { read_payload(fixed, payload)? };
    let maybe_executed = fixed.has(MAYBE_EXECUTED);
    Ok(ErrorReply { call: fixed.call, partials: fixed.sequence, code, maybe_executed, detail, payload })
}

fn read_payload(fixed: &Fixed, bytes: Bytes) -> Result<Payload, Reason> {
    let unknown = Reason::Unknown { field: "codec", offset: 24, value: fixed.codec };
    let codec = Codec::from_wire(fixed.codec).ok_or(unknown)?;
    Ok(Payload { codec, bytes })
}

/// The count covers all of a batch: bytes behind its last message would be messages that are lost.
fn end_of_batch(left: usize) -> Result<(), Malformed> {
    if left == 0 { Ok(()) } else { Err(of_batch(Reason::BatchNotEmptied { left })) }
}

fn of_batch(reason: Reason) -> Malformed {
    Fixed::of(Kind::Batch).malformed(reason)
}

/// The smallest size of a name: its length.
const NAME_BYTES_MIN: usize = 1;
/// The smallest size of a service offer: its length, an empty name, version and method count.
const SERVICE_BYTES_MIN: usize = 2 + 1 + 4 + 2;
/// The smallest size of a method offer: its length, an empty name, flags and fingerprint.
const METHOD_BYTES_MIN: usize = 2 + 1 + 1 + 8;
