//! Faults that tests plant in the core, one at a time, to prove that they are noticed.
//!
//! Only the build of `tests/planted` has any; elsewhere there are none, and asking costs nothing.

#[cfg(any(test, xero_planted_faults))]
use std::cell::Cell;

/// A mistake that the core could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A message does not renew its sender's lease.
    LeaseNotRenewed,
    /// An expired lease stays valid.
    LeaseNeverEnds,
    /// A dispatcher lets an interval pass in silence.
    HeartbeatNotSent,
    /// A worker lets an interval pass in silence.
    WorkerHeartbeatNotSent,
    /// The end of a request whose caller has gone returns its credit to nobody.
    CreditLost,
    /// One request more is sent than there are credits.
    CreditExceeded,
    /// Requests ignore the byte window.
    RequestWindowExceeded,
    /// Replies ignore the byte window.
    ReplyWindowExceeded,
    /// Received replies are never acknowledged.
    AckNotSent,
    /// A reply is reported although its call has ended.
    StaleReplyAccepted,
    /// A worker replies over another connection than the request's.
    StaleReplySent,
    /// A slow request is sent again.
    RetriedForTime,
    /// A partial reply is dropped, but counted as delivered.
    PartialLost,
    /// A lost worker's request is sent again although it is not idempotent.
    NonIdempotentRetried,
    /// An error denies that a request in flight may have run.
    ExecutionDenied,
    /// A call ends an interval after its deadline.
    DeadlineLate,
    /// A call that has ended keeps its deadline.
    DeadlineKept,
    /// A call ends twice.
    EndedTwice,
    /// A worker does not learn that nobody waits any more.
    CancelDropped,
    /// The requests of a lost worker stay in flight for ever.
    LostRequestsForgotten,
    /// Waiting calls are not sent when a worker has room again.
    WaitingNotServed,
    /// A draining worker receives requests.
    DrainIgnored,
    /// A worker says goodbye before it has finished its requests.
    DrainCutShort,
    /// A worker keeps running requests of a lost connection.
    ExecutionKept,
    /// A worker does not dial again after it has lost a connection.
    RedialForgotten,
    /// Messages for a peer that is gone are kept.
    OutboxKept,
    /// A broker keeps running the calls of a lost client.
    VanishedClientServed,
    /// A broker sends a reply to the wrong client.
    ReplyToWrongClient,
    /// A broker does not return a client's credit.
    ClientCreditLost,
    /// A reply that is held for a client is acknowledged without limit.
    HeldFinalsAcknowledged,
    /// A worker starts requests of a dispatcher that takes none of its replies.
    StartedUnread,
    /// A partial reply ends its call because other replies are held.
    InnocentUnread,
    /// A small payload keeps the whole buffer of its BATCH.
    BatchPinned,
    /// A request that has gone to a worker counts no more as held.
    ForwardedForgotten,
    /// What is held of all peers together has no limit.
    TotalIgnored,
    /// Peers that take nothing are kept although all together hold more than the limit.
    ExcessKept,
    /// Windows count payloads only.
    HeadersUncounted,
    /// A repeated READY ignores the window.
    ReadyUncounted,
    /// A request that may have run goes to a worker that does not declare its method idempotent.
    DeclarationForgotten,
    /// A broker takes the declaration of one worker for that of all.
    DeclarationNotPassedOn,
    /// A call waits although no worker can take it any more.
    NobodyAwaited,
    /// A policy may choose a worker that is not a candidate.
    StrayChoiceTrusted,
    /// A request goes to a worker that does not read its codec.
    CodecIgnored,
    /// A call that must fail fast backs off before its next attempt.
    FailFastBacksOff,
    /// A worker without credits has a say in what is offered.
    SquatterHeard,
    /// A worker with many services crowds out those of others.
    SharesIgnored,
    /// A request whose procedure ended with its runtime counts as cancelled.
    StoppedAsCancelled,
    /// A peer whose connection is about to end may register.
    EndedPeerAccepted,
    /// A peer may send more than the window that it was granted.
    ExcessAccepted,
    /// A BATCH that breaks does not end its connection.
    BreakBorne,
    /// A peer that no longer reads BATCH is sent one.
    BatchNotRevoked,
    /// An acknowledgement of more than was sent is believed.
    AckBelieved,
    /// A final reply of a worker that was not asked ends a call.
    UnsolicitedAccepted,
    /// A broker announces every change of its offer at once.
    OffersUnpaced,
    /// A client that had no room for a change of the offer is not sent it later.
    MissedChangeForgotten,
    /// A call whose service is gone comes back before its client knows that.
    ReturnedTooSoon,
    /// A peer whose offer cannot be read stays connected.
    HiddenOfferBorne,
    /// OFFER is sent to a peer that does not read it.
    OfferUnasked,
    /// A service that a broker withdraws stays known.
    WithdrawnKept,
    /// All calls that expire together are ended in one pass.
    ExpiriesUnbounded,
    /// A dispatcher whose driver is held up sends no heartbeats.
    HeartbeatsWithheld,
    /// A request goes over a connection that its worker has left behind for a newer one.
    GhostTrusted,
    /// A reply makes the dispatcher look at every call that waits.
    EverybodyWalked,
    /// A READY makes the dispatcher look at every method of every worker.
    OffersWalked,
    /// A renewed offer must fit beside the worker's former one.
    FormerOfferCounted,
    /// A connection may stay without an introduction.
    StrangerKept,
    /// A broker announces the earliest version of a service.
    EarliestVersion,
    /// Calls of any size wait in one line.
    LimitsForgotten,
    /// A pool does not learn of queues that are new since it first looked.
    RouseMissed,
    /// A call waits although no worker takes its payload.
    TooLargeAwaited,
}

impl Fault {
    /// Every fault that can be planted.
    pub const ALL: [Self; 70] = [
        Self::LeaseNotRenewed,
        Self::LeaseNeverEnds,
        Self::HeartbeatNotSent,
        Self::WorkerHeartbeatNotSent,
        Self::CreditLost,
        Self::CreditExceeded,
        Self::RequestWindowExceeded,
        Self::ReplyWindowExceeded,
        Self::AckNotSent,
        Self::StaleReplyAccepted,
        Self::StaleReplySent,
        Self::RetriedForTime,
        Self::PartialLost,
        Self::NonIdempotentRetried,
        Self::ExecutionDenied,
        Self::DeadlineLate,
        Self::DeadlineKept,
        Self::EndedTwice,
        Self::CancelDropped,
        Self::LostRequestsForgotten,
        Self::WaitingNotServed,
        Self::DrainIgnored,
        Self::DrainCutShort,
        Self::ExecutionKept,
        Self::RedialForgotten,
        Self::OutboxKept,
        Self::VanishedClientServed,
        Self::ReplyToWrongClient,
        Self::ClientCreditLost,
        Self::HeldFinalsAcknowledged,
        Self::StartedUnread,
        Self::InnocentUnread,
        Self::BatchPinned,
        Self::ForwardedForgotten,
        Self::TotalIgnored,
        Self::ExcessKept,
        Self::HeadersUncounted,
        Self::ReadyUncounted,
        Self::DeclarationForgotten,
        Self::DeclarationNotPassedOn,
        Self::NobodyAwaited,
        Self::StrayChoiceTrusted,
        Self::CodecIgnored,
        Self::FailFastBacksOff,
        Self::SquatterHeard,
        Self::SharesIgnored,
        Self::StoppedAsCancelled,
        Self::EndedPeerAccepted,
        Self::ExcessAccepted,
        Self::BreakBorne,
        Self::BatchNotRevoked,
        Self::AckBelieved,
        Self::UnsolicitedAccepted,
        Self::OffersUnpaced,
        Self::MissedChangeForgotten,
        Self::ReturnedTooSoon,
        Self::HiddenOfferBorne,
        Self::OfferUnasked,
        Self::WithdrawnKept,
        Self::ExpiriesUnbounded,
        Self::HeartbeatsWithheld,
        Self::GhostTrusted,
        Self::EverybodyWalked,
        Self::OffersWalked,
        Self::FormerOfferCounted,
        Self::StrangerKept,
        Self::EarliestVersion,
        Self::LimitsForgotten,
        Self::RouseMissed,
        Self::TooLargeAwaited,
    ];
}

#[cfg(xero_planted_faults)]
thread_local! {
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
}

#[cfg(xero_planted_faults)]
thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// Waiting calls, their lines and offered methods that the machines of this thread have looked at since the last call.
#[cfg(xero_planted_faults)]
pub fn take_steps() -> u64 {
    STEPS.take()
}

/// Counts a waiting call, a line or an offered method that a machine looks at.
#[cfg(xero_planted_faults)]
pub(crate) fn count_step() {
    STEPS.set(STEPS.get() + 1);
}

/// Counts nothing.
#[cfg(not(xero_planted_faults))]
pub(crate) const fn count_step() {}

#[cfg(test)]
thread_local! {
    static POOLS: Cell<u64> = const { Cell::new(0) };
}

/// Pools that were looked at one by one since the last call.
#[cfg(test)]
pub(crate) fn take_pools() -> u64 {
    POOLS.take()
}

/// Counts a pool that is looked at for itself.
#[cfg(test)]
pub(crate) fn count_pool() {
    POOLS.set(POOLS.get() + 1);
}

/// Counts nothing.
#[cfg(not(test))]
pub(crate) const fn count_pool() {}

/// Plants a fault in every machine of this thread, in place of the one before.
#[cfg(xero_planted_faults)]
pub fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}

/// Whether this fault is planted.
#[cfg(xero_planted_faults)]
pub(crate) fn planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

/// Whether this fault is planted.
#[cfg(not(xero_planted_faults))]
pub(crate) const fn planted(_: Fault) -> bool {
    false
}
