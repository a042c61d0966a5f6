//! Strategies for any message that fits the default limits.

use proptest::{collection::vec, option, sample::select, strategy::Union};

use super::*;

pub(super) fn message() -> Union<BoxedStrategy<Message>> {
    let call = (1..=u64::MAX).prop_map(CallId);
    Union::new([
        ready().prop_map(Message::Ready).boxed(),
        offer_change().prop_map(Message::Offer).boxed(),
        request().prop_map(Message::Request).boxed(),
        (call.clone(), 0..u32::MAX, payload())
            .prop_map(|(call, sequence, payload)| Message::Partial(PartialReply { call, sequence, payload }))
            .boxed(),
        (call.clone(), any::<u32>(), payload())
            .prop_map(|(call, partials, payload)| Message::Final(FinalReply { call, partials, payload }))
            .boxed(),
        error().prop_map(Message::Error).boxed(),
        call.prop_map(Message::Cancel).boxed(),
        any::<u32>().prop_map(Message::Credit).boxed(),
        any::<u64>().prop_map(Message::Ack).boxed(),
        (name(), any::<u64>(), payload())
            .prop_map(|(topic, sequence, payload)| {
                Message::Event(Event { topic: topic.as_str().into(), sequence, payload })
            })
            .boxed(),
        (name(), any::<bool>())
            .prop_map(|(topic, wanted)| Message::Subscribe(Subscribe { topic: topic.as_str().into(), wanted }))
            .boxed(),
        select(vec![Message::Heartbeat, Message::Patience(Duration::from_micros(1)), Message::Drain, Message::Goodbye])
            .boxed(),
    ])
}

fn ready() -> impl Strategy<Value = Ready> {
    let role = select(vec![Role::Dispatcher, Role::Worker, Role::Client]);
    let numbers = (any::<u128>(), any::<u32>(), any::<u64>(), any::<u64>(), any::<u32>(), any::<u64>());
    let services = vec(service(), 0..4);
    (role, numbers, vec(select(Codec::ALL.to_vec()), 0..5), services).prop_map(|(role, numbers, codecs, services)| {
        let (incarnation, capabilities, micros, payload_bytes_max, credits, window_bytes) = numbers;
        Ready {
            role,
            incarnation: Uuid::from_u128(incarnation),
            capabilities: Capabilities(capabilities),
            interval: Duration::from_micros(micros),
            payload_bytes_max,
            credits,
            window_bytes,
            codecs,
            services,
        }
    })
}

fn offer_change() -> impl Strategy<Value = OfferChange> {
    (vec(service(), 0..4), vec(name(), 0..4)).prop_map(|(changed, withdrawn)| OfferChange {
        changed,
        withdrawn: withdrawn.iter().map(|name| name.as_str().into()).collect(),
    })
}

fn service() -> impl Strategy<Value = ServiceOffer> {
    let method = (name(), any::<bool>(), any::<u64>()).prop_map(|(name, idempotent, fingerprint)| MethodOffer {
        name: name.as_str().into(),
        idempotent,
        fingerprint,
    });
    (name(), any::<u32>(), vec(method, 0..5)).prop_map(|(name, version, methods)| ServiceOffer {
        name: name.as_str().into(),
        version,
        methods,
    })
}

fn request() -> impl Strategy<Value = Request> {
    let metadata = prop::collection::btree_map(name(), vec(any::<u8>(), 0..40).prop_map(Bytes::from), 0..4);
    let numbers = (1..=u64::MAX, any::<u8>(), any::<(bool, bool, bool)>(), any::<u64>(), any::<u64>());
    (numbers, name(), name(), metadata, payload()).prop_map(|(numbers, service, method, metadata, payload)| {
        let (call, attempt, (idempotent, as_declared, fail_fast), fingerprint, micros) = numbers;
        Request {
            call: CallId(call),
            attempt,
            idempotent,
            as_declared,
            fail_fast,
            service: service.as_str().into(),
            method: method.as_str().into(),
            fingerprint,
            remaining: Duration::from_micros(micros),
            metadata: metadata.into_iter().collect(),
            payload,
        }
    })
}

fn error() -> impl Strategy<Value = ErrorReply> {
    let code = (1..=16_u8).prop_filter_map("a code", ErrorCode::from_wire);
    let payload = option::of(payload()).prop_map(Option::unwrap_or_default);
    (any::<u64>(), any::<u32>(), code, any::<bool>(), "\\PC{0,200}", payload).prop_map(
        |(call, partials, code, maybe_executed, detail, payload)| ErrorReply {
            call: CallId(call),
            partials,
            code,
            maybe_executed,
            detail,
            payload,
        },
    )
}

fn payload() -> impl Strategy<Value = Payload> {
    (select(Codec::ALL.to_vec()), vec(any::<u8>(), 0..60))
        .prop_map(|(codec, bytes)| Payload { codec, bytes: bytes.into() })
}

fn name() -> impl Strategy<Value = String> {
    "\\PC{0,60}"
}
