//! Faults that tests plant in the core, one at a time, to see that they are noticed. Only the build of
//! `tests/planted` has any; elsewhere there are none, and asking costs nothing.

#[cfg(xero_planted_faults)]
use std::cell::Cell;

/// Something that the core could do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A message does not renew its sender's lease.
    LeaseNotRenewed,
    /// A lease that has run out is taken for good.
    LeaseNeverEnds,
    /// A dispatcher lets an interval pass in silence.
    HeartbeatNotSent,
    /// A worker lets an interval pass in silence.
    WorkerHeartbeatNotSent,
    /// The end of a request whose caller has gone gives its credit to nobody.
    CreditLost,
    /// One request more is sent than there are credits.
    CreditExceeded,
    /// Requests are sent as though there were no window for their bytes.
    RequestWindowExceeded,
    /// Replies are sent as though there were no window for their bytes.
    ReplyWindowExceeded,
    /// What has been taken of a peer's replies is never acknowledged.
    AckNotSent,
    /// A reply is told although its call has ended.
    StaleReplyAccepted,
    /// A worker replies over another connection than the one that has asked.
    StaleReplySent,
    /// A request is sent again because it takes its time.
    RetriedForTime,
    /// A partial reply is dropped, and counted as though it had been told.
    PartialLost,
    /// A lost worker's request is sent again although it is not idempotent.
    NonIdempotentRetried,
    /// An error says that a request in flight cannot have run.
    ExecutionDenied,
    /// A call ends an interval after its deadline.
    DeadlineLate,
    /// A call that has ended keeps its deadline.
    DeadlineKept,
    /// A call ends twice.
    EndedTwice,
    /// A worker is not told that nobody waits any more.
    CancelDropped,
    /// The requests of a lost worker stay in flight for ever.
    LostRequestsForgotten,
    /// Calls that wait are not sent when a worker has room again.
    WaitingNotServed,
    /// A worker that drains is sent requests.
    DrainIgnored,
    /// A worker says goodbye before it has finished what it has.
    DrainCutShort,
    /// A worker runs on for a connection that is gone.
    ExecutionKept,
    /// A worker does not dial again after it has lost a connection.
    RedialForgotten,
    /// Messages for a peer that is gone are kept.
    OutboxKept,
    /// A broker runs on with the calls of a client that is gone.
    VanishedClientServed,
    /// A broker sends a reply to another client.
    ReplyToWrongClient,
    /// A broker does not give a client's credit back.
    ClientCreditLost,
}

impl Fault {
    /// Every fault that can be planted.
    pub const ALL: [Self; 29] = [
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
    ];
}

#[cfg(xero_planted_faults)]
thread_local! {
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
}

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
