//! Typed messages of the protocol (`PROTOCOL.md` §4); no bytes.

use std::{
    collections::{BTreeMap, btree_map},
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use uuid::Uuid;

/// One connection of a peer; the transport numbers it and never uses the number again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub u64);

/// A call's number, chosen by the dispatcher; unique for the life of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// How a payload encodes its value (`PROTOCOL.md` §7).
///
/// Each codec has a feature of this crate: `bincode`, `messagepack` and `json`, which are on by default, and
/// `postcard`.
///
/// Every codec carries what serde derives. They differ where names, or the absence of a value, matter:
///
/// | | bincode, postcard | MessagePack | JSON |
/// |---|---|---|---|
/// | `skip_serializing_if`, `skip` on a variant before others | refused | carried | carried |
/// | `untagged`, `tag`, `flatten`, `serde_json::Value` | refused | carried | carried |
/// | `Some(None)`, `Some(())` | carried | refused | refused |
/// | infinity and NaN; maps whose keys are no texts or numbers | carried | carried | refused |
/// | fields that only one side has | read as other values, or refused | skipped, or defaults | skipped, or defaults |
///
/// The side that writes a value refuses it, with an error that names the type.
#[cfg_attr(
    feature = "net",
    doc = "The guide has the whole table, and what each codec costs: [choosing a codec](crate::guide::codecs)."
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Codec {
    /// bincode 2, standard configuration: compact, for Rust on both sides; guarded by fingerprints.
    Bincode = 1,
    /// MessagePack with named fields: self-describing, for other languages and services that evolve.
    MessagePack = 2,
    /// JSON: self-describing, for people and HTTP.
    Json = 3,
    /// postcard 1: as compact as bincode and for the same uses, with a specification and a maintainer.
    Postcard = 4,
}

impl Codec {
    /// Every codec, in the order of their numbers on the wire. Later versions may have more.
    pub const ALL: [Self; 4] = [Self::Bincode, Self::MessagePack, Self::Json, Self::Postcard];

    /// The codecs of this build, in the order of their numbers.
    ///
    /// The core alone encodes no values, and so has all of them.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|codec| codec.is_available())
    }

    /// Whether this program was built with the codec's feature.
    pub fn is_available(self) -> bool {
        let has_feature = match self {
            Self::Bincode => cfg!(feature = "bincode"),
            Self::MessagePack => cfg!(feature = "messagepack"),
            Self::Json => cfg!(feature = "json"),
            Self::Postcard => cfg!(feature = "postcard"),
        };
        has_feature || cfg!(not(feature = "net"))
    }

    /// The codec with this number on the wire, if it exists.
    pub fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| *codec as u8 == number)
    }

    /// Whether a reader needs no type: fields and variants travel with their names.
    ///
    /// For the other codecs, a method's fingerprint guards its signature.
    pub fn is_self_describing(self) -> bool {
        matches!(self, Self::MessagePack | Self::Json)
    }
}

/// The most compact codec of this build: bincode, else postcard, MessagePack, JSON.
impl Default for Codec {
    fn default() -> Self {
        let by_size = [Self::Bincode, Self::Postcard, Self::MessagePack, Self::Json];
        by_size.into_iter().find(|codec| codec.is_available()).unwrap_or(Self::Bincode)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bincode => "bincode",
            Self::MessagePack => "MessagePack",
            Self::Json => "JSON",
            Self::Postcard => "postcard",
        })
    }
}

/// An encoded value and the codec that wrote it. Cloning shares the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// The codec that wrote `bytes`.
    pub codec: Codec,
    /// The encoded value.
    pub bytes: Bytes,
}

/// Names, sorted; cloning shares them.
pub type Names = Arc<[Arc<str>]>;

/// Values that travel beside a call's arguments, such as `traceparent`.
///
/// Cloning shares them; an empty one costs nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata(Option<Arc<BTreeMap<String, Bytes>>>);

impl Metadata {
    /// No values.
    pub fn new() -> Self {
        Self::default()
    }

    /// The memory that the map takes beside its keys and values.
    pub(crate) fn overhead_bytes(&self) -> u64 {
        const ENTRY_BYTES: u64 = 192;
        ENTRY_BYTES * self.len() as u64
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Deref for Metadata {
    type Target = BTreeMap<String, Bytes>;

    fn deref(&self) -> &Self::Target {
        static NONE: BTreeMap<String, Bytes> = BTreeMap::new();
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for Metadata {
    fn deref_mut(&mut self) -> &mut Self::Target {
        Arc::make_mut(self.0.get_or_insert_default())
    }
}

impl FromIterator<(String, Bytes)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (String, Bytes)>>(values: I) -> Self {
        let values: BTreeMap<_, _> = values.into_iter().collect();
        Self((!values.is_empty()).then(|| Arc::new(values)))
    }
}

impl<const N: usize> From<[(String, Bytes); N]> for Metadata {
    fn from(values: [(String, Bytes); N]) -> Self {
        values.into_iter().collect()
    }
}

impl<'a> IntoIterator for &'a Metadata {
    type Item = (&'a String, &'a Bytes);
    type IntoIter = btree_map::Iter<'a, String, Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One message between two peers.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Introduces a peer; the first message each way.
    Ready(Ready),
    /// Changes the offer in the sender's READY.
    Offer(OfferChange),
    /// Asks a worker to run a procedure.
    Request(Request),
    /// A reply before the last one.
    Partial(PartialReply),
    /// The reply that ends a request.
    Final(FinalReply),
    /// The error that ends a request.
    Error(ErrorReply),
    /// The caller no longer wants the reply.
    Cancel(CallId),
    /// A worker's new number of credits in total, in flight included.
    Credit(u32),
    /// The payload bytes that the sender acknowledges, counted since it was introduced.
    Ack(u64),
    /// A value published under a topic, outside any call.
    Event(Event),
    /// Starts or ends a subscription to the events of a topic.
    Subscribe(Subscribe),
    /// Nothing else went out for an interval.
    Heartbeat,
    /// A heartbeat before a large message, which may take this long to cross the link; nothing arrives in between.
    Patience(Duration),
    /// The sender finishes its requests and accepts no new one.
    Drain,
    /// The sender is leaving; nothing follows.
    Goodbye,
}

impl Message {
    /// The call that this replies to, if it is a reply.
    pub fn reply(&self) -> Option<CallId> {
        match self {
            Self::Partial(reply) => Some(reply.call),
            Self::Final(reply) => Some(reply.call),
            Self::Error(reply) => Some(reply.call),
            _ => None,
        }
    }

    /// The call that this requests, if it is a request.
    pub fn request(&self) -> Option<CallId> {
        match self {
            Self::Request(request) => Some(request.call),
            _ => None,
        }
    }

    /// The services and methods that it announces: handling it takes time in proportion.
    pub(crate) fn announced(&self) -> usize {
        let of = |services: &[ServiceOffer]| services.iter().map(|service| 1 + service.methods.len()).sum::<usize>();
        match self {
            Self::Ready(ready) => of(&ready.services),
            Self::Offer(change) => change.withdrawn.len() + of(&change.changed),
            _ => 0,
        }
    }

    /// The payload's size in bytes; 0 for kinds without one.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Request(m) => m.payload.bytes.len(),
            Self::Partial(m) => m.payload.bytes.len(),
            Self::Final(m) => m.payload.bytes.len(),
            Self::Error(m) => m.payload.bytes.len(),
            Self::Event(m) => m.payload.bytes.len(),
            _ => 0,
        }
    }
}

/// The role of a peer (`PROTOCOL.md` §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Routes calls to workers: a client that binds, or a broker.
    Dispatcher = 1,
    /// Serves requests.
    Worker = 2,
    /// Originates calls through a broker.
    Client = 3,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dispatcher => "dispatcher",
            Self::Worker => "worker",
            Self::Client => "client",
        })
    }
}

/// A peer's abilities beyond the base protocol; unknown bits are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u32);

impl Capabilities {
    /// Reads BATCH.
    pub const BATCH: Self = Self(1);
    /// Takes and sends EVENT and SUBSCRIBE.
    pub const EVENTS: Self = Self(1 << 1);
    /// Streams items with flow control.
    pub const STREAMS: Self = Self(1 << 2);
    /// Reads OFFER.
    pub const OFFERS: Self = Self(1 << 3);

    /// These capabilities and those.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every capability of `other` is announced.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A peer's introduction (`PROTOCOL.md` §5).
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// The sender's role.
    pub role: Role,
    /// The incarnation of the sender's process.
    pub incarnation: Uuid,
    /// The sender's abilities beyond the base protocol.
    pub capabilities: Capabilities,
    /// The sender's longest silence.
    pub interval: Duration,
    /// The largest payload that the sender accepts.
    pub payload_bytes_max: u64,
    /// Requests that the sender takes at once; 0 if it takes none.
    pub credits: u32,
    /// The sender's receive window, in bytes; 0, or more than 64 MiB, means 64 MiB.
    pub window_bytes: u64,
    /// The codecs the sender reads.
    pub codecs: Vec<Codec>,
    /// The services of a worker, or of a broker's workers; empty for the others.
    pub services: Vec<ServiceOffer>,
}

/// A change of the services in READY (`PROTOCOL.md` §5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfferChange {
    /// Services that are new or differ: each takes the place of the one with its name, methods included.
    pub changed: Vec<ServiceOffer>,
    /// The names of services that are gone. They are removed before `changed` is applied.
    pub withdrawn: Vec<Arc<str>>,
}

impl OfferChange {
    /// The services after the change, sorted by name.
    pub fn apply(self, services: &[ServiceOffer]) -> Vec<ServiceOffer> {
        let mut by_name: BTreeMap<_, _> =
            services.iter().map(|service| (Arc::clone(&service.name), service.clone())).collect();
        self.withdrawn.iter().for_each(|name| drop(by_name.remove(name)));
        by_name.extend(self.changed.into_iter().map(|service| (Arc::clone(&service.name), service)));
        by_name.into_values().collect()
    }
}

/// A service that a worker offers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceOffer {
    /// The service's name.
    pub name: Arc<str>,
    /// Its version, in its author's count.
    pub version: u32,
    /// Its methods.
    pub methods: Vec<MethodOffer>,
}

/// A method that a worker offers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MethodOffer {
    /// The method's name, unique in its service.
    pub name: Arc<str>,
    /// Whether it may run twice.
    pub idempotent: bool,
    /// The hash of its signature (`PROTOCOL.md` §7); 0 if it has none.
    pub fingerprint: u64,
}

/// One attempt of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The call of this attempt.
    pub call: CallId,
    /// 1 for the first attempt.
    pub attempt: u8,
    /// Whether the caller allows it to run twice.
    pub idempotent: bool,
    /// Whether `idempotent` stands for the workers' declaration: then only a worker that declares it may have it.
    pub as_declared: bool,
    /// Whether it fails at once, instead of waiting, if no worker can take it.
    pub fail_fast: bool,
    /// The service's name.
    pub service: Arc<str>,
    /// The method's name.
    pub method: Arc<str>,
    /// The caller's hash of the signature; 0 if the codec needs none.
    pub fingerprint: u64,
    /// The remaining time until the call's deadline.
    pub remaining: Duration,
    /// The caller's values beside the arguments.
    pub metadata: Metadata,
    /// The arguments.
    pub payload: Payload,
}

/// A reply before the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialReply {
    /// The call it belongs to.
    pub call: CallId,
    /// 0 for the first partial reply of a request, then 1, 2 …
    pub sequence: u32,
    /// The value.
    pub payload: Payload,
}

/// The reply that ends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalReply {
    /// The call it belongs to.
    pub call: CallId,
    /// The number of partial replies before it.
    pub partials: u32,
    /// The value.
    pub payload: Payload,
}

/// The error that ends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReply {
    /// The call it belongs to.
    pub call: CallId,
    /// The number of partial replies before it.
    pub partials: u32,
    /// What went wrong.
    pub code: ErrorCode,
    /// Whether the procedure may have run, in part or whole.
    pub maybe_executed: bool,
    /// A sentence for people; empty for `ErrorCode::Application`.
    pub detail: String,
    /// The method's own error, for `ErrorCode::Application`; empty otherwise.
    pub payload: Payload,
}

impl ErrorReply {
    /// The error that ends a request before its start.
    pub fn not_started(call: CallId, code: ErrorCode, detail: String) -> Self {
        Self { call, partials: 0, code, maybe_executed: false, detail, payload: Payload::default() }
    }
}

/// The error that ended a request (`PROTOCOL.md` §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The method's own error; the payload holds it.
    Application = 1,
    /// The procedure panicked.
    Panicked = 2,
    /// The worker does not offer the service.
    UnknownService = 3,
    /// The service has no such method.
    UnknownMethod = 4,
    /// The fingerprints differ: caller and worker know the method by different signatures.
    SignatureMismatch = 5,
    /// The arguments do not decode.
    InvalidArguments = 6,
    /// The reply could not be encoded.
    InvalidReply = 7,
    /// The deadline passed on the worker.
    DeadlineExceeded = 8,
    /// The request was cancelled.
    Cancelled = 9,
    /// The worker drains or its runtime has ended; unless the error says otherwise, it did not start the request.
    Refused = 10,
    /// The worker has no room for the request and did not start it.
    Overloaded = 11,
    /// A payload exceeds what the sender of this error accepts or may send.
    TooLarge = 12,
    /// The message could not be read.
    Malformed = 13,
    /// No live worker offers the service (from a broker).
    NoWorker = 14,
    /// The worker was lost before it replied (from a broker).
    WorkerLost = 15,
    /// The caller does not read the partial replies (from a broker).
    Unread = 16,
}

impl ErrorCode {
    /// Whether only a broker sends it.
    pub(crate) fn is_of_broker(self) -> bool {
        matches!(self, Self::NoWorker | Self::WorkerLost | Self::Unread)
    }

    /// The error code with this number on the wire, if it exists.
    pub fn from_wire(number: u8) -> Option<Self> {
        use ErrorCode::*;
        [
            Application,
            Panicked,
            UnknownService,
            UnknownMethod,
            SignatureMismatch,
            InvalidArguments,
            InvalidReply,
            DeadlineExceeded,
            Cancelled,
            Refused,
            Overloaded,
            TooLarge,
            Malformed,
            NoWorker,
            WorkerLost,
            Unread,
        ]
        .into_iter()
        .find(|code| *code as u8 == number)
    }
}

/// Names for an error's detail: only as many as fit a few lines, because each error has its own copy.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let mut text = String::new();
    for name in names.by_ref() {
        let separator = if text.is_empty() { "" } else { ", " };
        text.extend([separator, "`", name, "`"]);
        if text.len() > LISTED_BYTES {
            break;
        }
    }
    match names.count() {
        _ if text.is_empty() => "nothing".to_owned(),
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// A dozen lines.
const LISTED_BYTES: usize = 1_024;

/// A value published under a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its topic.
    pub topic: Arc<str>,
    /// The publisher's count of this topic's events, from 0, so that a gap shows.
    pub sequence: u64,
    /// The value.
    pub payload: Payload,
}

/// Starts or ends a subscription to the events of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The topic.
    pub topic: Arc<str>,
    /// `false` ends the subscription.
    pub wanted: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_as_far_as_a_detail_has_room() {
        assert_eq!(listed([]), "nothing");
        assert_eq!(listed(["one"]), "`one`");
        assert_eq!(listed(["one", "two"]), "`one`, `two`");
        let long = "x".repeat(255);
        let text = listed([&*long; 4_096]);
        assert!(text.len() < 2 * LISTED_BYTES && text.ends_with(" and 4092 more"), "{}", &text[text.len() - 40..]);
    }
}
