//! What a broker passes on: requests as calls of its own, and their failures as errors.

use std::{sync::Arc, time::Instant};

use crate::proto::{
    calls::{CallFailure, CallSpec, WaitPolicy, codec_not_read, overloaded},
    fault::{Fault, planted},
    message::{CallId, ErrorCode, ErrorReply, Peer, Request, listed},
    worker::DEADLINE_MAX,
};

/// The call that passes a client's request on.
pub(super) fn spec_of(now: Instant, from: Peer, request: Request) -> CallSpec {
    let Request {
        attempt,
        idempotent,
        as_declared,
        fail_fast,
        service,
        method,
        fingerprint,
        remaining,
        metadata,
        payload,
        ..
    } = request;
    let (owner, deadline) = (from.0, now + remaining.min(DEADLINE_MAX));
    // The client knew the declaration of all workers; it must hold for the chosen worker too.
    let must_declare = idempotent && as_declared && !planted(Fault::DeclarationNotPassedOn);
    let (idempotent, attempts_before) = ((!must_declare).then_some(idempotent), attempt.saturating_sub(1));
    // Only the client knows other brokers, and a call that waits with it outlives this broker.
    let wait_policy = if fail_fast { WaitPolicy::Never } else { WaitPolicy::WhileOffered };
    CallSpec {
        service,
        method,
        fingerprint,
        idempotent,
        must_declare,
        wait_policy,
        owner,
        attempts_before,
        deadline,
        metadata,
        payload,
    }
}

/// A failed call's error for its client, without its call id and count of partial replies. `leaving` is why a broker that
/// leaves ends its calls.
pub(super) fn error_of(failure: CallFailure, leaving: &str) -> ErrorReply {
    let error = |code, maybe_executed, detail| ErrorReply {
        maybe_executed,
        ..ErrorReply::not_started(CallId(0), code, detail)
    };
    let names = |offered: &[Arc<str>]| listed(offered.iter().map(|name| &**name));
    match failure {
        // This broker has used up the attempts; its clients must not start anew.
        CallFailure::Remote(reply) if matches!(reply.code, ErrorCode::Refused | ErrorCode::Overloaded) => {
            error(ErrorCode::WorkerLost, reply.maybe_executed, reply.detail)
        }
        CallFailure::Remote(reply) => reply,
        CallFailure::DeadlineExceeded { maybe_executed } => {
            error(ErrorCode::DeadlineExceeded, maybe_executed, String::new())
        }
        CallFailure::NoWorker { offered, .. } => {
            error(ErrorCode::NoWorker, false, format!("live workers offer {}", names(&offered)))
        }
        CallFailure::NotOffered { maybe_executed, offered } => {
            error(ErrorCode::NoWorker, maybe_executed, format!("live workers offer {}", names(&offered)))
        }
        CallFailure::CodecNotRead { codec, read } => {
            error(ErrorCode::InvalidArguments, false, codec_not_read(codec, &read))
        }
        CallFailure::UnknownMethod { offered } => {
            error(ErrorCode::UnknownMethod, false, format!("the service has {}", names(&offered)))
        }
        CallFailure::WorkerLost { maybe_executed, attempts } => {
            error(ErrorCode::WorkerLost, maybe_executed, format!("attempt {attempts} was the last"))
        }
        CallFailure::Overloaded { waiting, waiting_max } => {
            error(ErrorCode::Overloaded, false, overloaded(waiting, waiting_max, " at the broker"))
        }
        CallFailure::TooLarge(too_large) => error(ErrorCode::TooLarge, false, too_large.to_string()),
        CallFailure::PartialsLost { sent, received } => {
            let detail = format!("of {sent} partial replies, {received} have reached the broker");
            error(ErrorCode::Malformed, true, detail)
        }
        CallFailure::PartialsUnread { .. } => error(ErrorCode::Unread, true, String::new()),
        CallFailure::UnreadableReply { reason } => error(ErrorCode::Malformed, true, reason),
        CallFailure::Closed { maybe_executed } => error(ErrorCode::Refused, maybe_executed, leaving.to_owned()),
    }
}
