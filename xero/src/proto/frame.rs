//! Frames <-> messages: the fixed header, each kind's fields, BATCH, and their limits (`PROTOCOL.md` §3, §4, §11, §13).
//!
//! Received bytes never cause a panic, and no declared number sizes an allocation: a count is believed only as far as
//! the received bytes could hold it.

mod decode;
mod encode;
mod fixed;
mod kind;
mod malformed;
mod names;
mod reader;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use thiserror::Error;

use super::message::{Message, Metadata, OfferChange, ServiceOffer};

pub(crate) use self::encode::{header_bytes, metadata_bytes};
pub use self::{
    decode::{Decoded, Inbound, announcing_bytes, decode, oversized},
    encode::{batched_bytes, encode, encode_batch, window_bytes},
    malformed::{Malformed, Reason},
    names::KnownNames,
};

/// One message on a transport: a header frame, and a payload frame unless that is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// The fixed header and the kind's fields.
    pub header: Bytes,
    /// The payload; an empty one is not sent as a frame.
    pub payload: Bytes,
}

/// The largest messages that a peer sends and accepts (`PROTOCOL.md` §13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Header frame. Default 64 KiB: room for an introduction with 2,000 methods of usual names.
    ///
    /// Any other header is under 1 KiB, apart from its metadata and an error's detail.
    pub header_bytes_max: usize,
    /// Metadata of a request on the wire. Default 16 KiB: twice the usual header limit of HTTP servers.
    ///
    /// So everything that a gateway forwards fits.
    pub metadata_bytes_max: usize,
    /// Payload of one message, and body of a BATCH. Default 64 MiB: an uncompressed photo fits.
    ///
    /// A few dozen of them in flight at once still fit in memory.
    pub payload_bytes_max: usize,
    /// Messages in one BATCH. Default 1,024: beyond a few hundred a batch gains no speed.
    ///
    /// One batch is handled without a pause.
    pub batch_messages_max: usize,
    /// Services in one introduction. Default 256: far more than any known process serves.
    ///
    /// The dispatcher keeps a queue for each.
    pub services_max: usize,
    /// Methods in one introduction, over all its services. Default 4,096: 16 per service.
    pub methods_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes_max: 64 << 10,
            metadata_bytes_max: 16 << 10,
            payload_bytes_max: 64 << 20,
            batch_messages_max: 1024,
            services_max: 256,
            methods_max: 4096,
        }
    }
}

impl Limits {
    fn header(&self, size: usize) -> Result<(), TooLarge> {
        within("header", size, self.header_bytes_max, "header_bytes_max")
    }

    fn metadata(&self, size: usize) -> Result<(), TooLarge> {
        within("metadata", size, self.metadata_bytes_max, "metadata_bytes_max")
    }

    fn payload(&self, size: usize) -> Result<(), TooLarge> {
        within("payload", size, self.payload_bytes_max, "payload_bytes_max")
    }

    fn batch(&self, count: usize) -> Result<(), TooLarge> {
        within("batch message count", count, self.batch_messages_max, "batch_messages_max")
    }

    fn services(&self, count: usize) -> Result<(), TooLarge> {
        within("service count", count, self.services_max, "services_max")
    }

    fn withdrawn(&self, count: usize) -> Result<(), TooLarge> {
        within("withdrawn count", count, self.services_max, "services_max")
    }

    fn methods(&self, count: usize) -> Result<(), TooLarge> {
        within("method count", count, self.methods_max, "methods_max")
    }
}

/// A part of a message exceeds its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{what} of {size}{unit} is over the limit of {limit}{unit} ({})", remedy(.setter), unit = unit(.what))]
pub struct TooLarge {
    /// The part. If its name ends in `count`, its unit is pieces, otherwise bytes.
    pub what: &'static str,
    /// The size of the part.
    pub size: usize,
    /// The limit.
    pub limit: usize,
    /// The setter that raises the limit; empty for a limit of the protocol itself.
    pub setter: &'static str,
}

/// The message for a reply that exceeds the limit of its caller, or of the way there.
pub(crate) fn reply_too_large(size: usize, limit: usize) -> String {
    format!(
        "the reply has {size} bytes, over the limit of {limit} bytes (raise it with `payload_bytes_max` on both sides)"
    )
}

/// Checks whether a message may be sent under these limits.
///
/// # Errors
/// The first part that exceeds its limit.
pub fn check(message: &Message, limits: &Limits) -> Result<(), TooLarge> {
    limits.payload(message.payload_bytes())?;
    match message {
        Message::Ready(m) => {
            within("codec count", m.codecs.len(), U8_MAX, "")?;
            check_offers(&m.services, limits)?;
        }
        Message::Offer(m) => check_offer_change(m, limits)?,
        Message::Request(m) => return check_request(&m.service, &m.method, &m.metadata, m.payload.bytes.len(), limits),
        Message::Event(m) => check_name("topic", &m.topic)?,
        Message::Subscribe(m) => check_name("topic", &m.topic)?,
        _ => {}
    }
    limits.header(header_bytes(message))
}

/// Checks whether a request with these parts may be sent under these limits.
///
/// # Errors
/// The first part that exceeds its limit.
pub(crate) fn check_request(
    service: &str,
    method: &str,
    metadata: &Metadata,
    payload_bytes: usize,
    limits: &Limits,
) -> Result<(), TooLarge> {
    limits.payload(payload_bytes)?;
    check_name("service name", service)?;
    check_name("method name", method)?;
    check_metadata(metadata, limits)?;
    limits.header(encode::request_bytes(service, method, metadata))
}

/// The size of an offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OfferSize {
    pub(crate) services: usize,
    pub(crate) methods: usize,
    pub(crate) bytes: usize,
}

impl OfferSize {
    /// The size of one service and its methods.
    pub(crate) fn of(offer: &ServiceOffer) -> Self {
        let methods = offer.methods.iter().map(|method| Self::of_method(&method.name));
        methods.fold(Self::of_service(&offer.name), |size, method| size.with(&method))
    }

    /// The size of a service without methods.
    pub(crate) fn of_service(name: &str) -> Self {
        Self { services: 1, methods: 0, bytes: encode::service_offer_bytes(name) }
    }

    /// The size of a method in its service.
    pub(crate) fn of_method(name: &str) -> Self {
        Self { services: 0, methods: 1, bytes: encode::method_offer_bytes(name) }
    }

    /// The size of these services.
    pub(crate) fn of_all(offers: &[ServiceOffer]) -> Self {
        offers.iter().map(Self::of).fold(Self::default(), |size, offer| size.with(&offer))
    }

    pub(crate) fn add(&mut self, other: &Self) {
        *self = self.with(other);
    }

    pub(crate) fn with(&self, other: &Self) -> Self {
        Self {
            services: self.services + other.services,
            methods: self.methods + other.methods,
            bytes: self.bytes + other.bytes,
        }
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        self.services -= other.services;
        self.methods -= other.methods;
        self.bytes -= other.bytes;
    }
}

/// The room for an offer in a dispatcher's READY.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfferRoom {
    pub(crate) services: usize,
    pub(crate) methods: usize,
    pub(crate) bytes: usize,
    limits: Limits,
}

impl OfferRoom {
    /// The bytes of the largest service offer, with its length.
    pub(crate) const SERVICE_BYTES: usize = 2 + U16_MAX;

    pub(crate) fn of(limits: &Limits) -> Self {
        Self {
            services: limits.services_max.min(U16_MAX),
            methods: limits.methods_max,
            bytes: limits.header_bytes_max.saturating_sub(encode::bare_ready_bytes()),
            limits: *limits,
        }
    }

    /// Checks whether an offer of this size fits.
    ///
    /// # Errors
    /// The first limit that it exceeds.
    pub(crate) fn check(&self, size: &OfferSize) -> Result<(), TooLarge> {
        self.limits.services(size.services)?;
        within("service count", size.services, U16_MAX, "")?;
        self.limits.methods(size.methods)?;
        self.limits.header(Self::introduction_bytes(size))
    }

    /// The size of the header frame of a dispatcher's READY with an offer of this size.
    pub(crate) fn introduction_bytes(size: &OfferSize) -> usize {
        encode::bare_ready_bytes() + size.bytes
    }

    /// Checks whether a service offer of this size fits in its length field.
    ///
    /// # Errors
    /// The limit, which is the protocol's own.
    pub(crate) fn check_service(size: &OfferSize) -> Result<(), TooLarge> {
        within("service offer", size.bytes.saturating_sub(2), U16_MAX, "")
    }
}

fn check_offers(services: &[ServiceOffer], limits: &Limits) -> Result<(), TooLarge> {
    limits.services(services.len())?;
    within("service count", services.len(), U16_MAX, "")?;
    limits.methods(services.iter().map(|service| service.methods.len()).sum())?;
    services.iter().try_for_each(check_offer)
}

fn check_offer_change(change: &OfferChange, limits: &Limits) -> Result<(), TooLarge> {
    check_offers(&change.changed, limits)?;
    limits.withdrawn(change.withdrawn.len())?;
    within("withdrawn count", change.withdrawn.len(), U16_MAX, "")?;
    change.withdrawn.iter().try_for_each(|name| check_name("withdrawn service", name))
}

fn check_offer(service: &ServiceOffer) -> Result<(), TooLarge> {
    check_name("service name", &service.name)?;
    service.methods.iter().try_for_each(|method| check_name("method name", &method.name))?;
    within("service offer", encode::offer_bytes_uncut(service), U16_MAX, "")
}

fn check_metadata(metadata: &Metadata, limits: &Limits) -> Result<(), TooLarge> {
    metadata.keys().try_for_each(|key| check_name("metadata key", key))?;
    limits.metadata(metadata_bytes(metadata))?;
    within("metadata entry count", metadata.len(), U16_MAX, "")
}

fn check_name(what: &'static str, name: &str) -> Result<(), TooLarge> {
    within(what, name.len(), U8_MAX, "")
}

fn within(what: &'static str, size: usize, limit: usize, setter: &'static str) -> Result<(), TooLarge> {
    if size > limit { Err(TooLarge { what, size, limit, setter }) } else { Ok(()) }
}

fn unit(what: &str) -> &'static str {
    if what.ends_with("count") { "" } else { " bytes" }
}

fn remedy(setter: &str) -> String {
    match setter {
        "" => "fixed by the protocol".to_owned(),
        "payload_bytes_max" => "raise it with `payload_bytes_max` on both sides".to_owned(),
        _ => format!("raise it with `{setter}`"),
    }
}

/// The largest length in one byte.
const U8_MAX: usize = u8::MAX as usize;
/// The largest length in two bytes.
const U16_MAX: usize = u16::MAX as usize;
