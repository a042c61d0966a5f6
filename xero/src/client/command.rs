//! What callers ask of a client's I/O thread.

use std::time::Duration;

use tokio::sync::oneshot;

use super::partials::PartialSender;
use crate::{
    io::panics,
    proto::{
        calls::{CallEnd, CallSpec},
        dispatch::DispatcherCounters,
        message::CallId,
    },
};

/// What handles and calls ask of the I/O thread.
#[derive(Debug)]
pub(crate) enum Command {
    Call(CallId, CallSpec, CallSink),
    Cancel(CallId),
    Counters(oneshot::Sender<DispatcherCounters>),
    Drain(Duration, oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
    /// Answer after that time.
    Wake(Duration, oneshot::Sender<()>),
}

/// Where the replies of a call go.
#[derive(Debug)]
pub(crate) struct CallSink {
    pub(crate) end: oneshot::Sender<CallEnd>,
    pub(crate) partials: Option<PartialSender>,
}

impl CallSink {
    /// Ends the call, if somebody waits for it.
    pub(crate) fn end(self, end: CallEnd) {
        let Self { end: sender, partials } = self;
        // Each wakes the caller, whose waker may panic.
        panics::wake(|| sender.send(end));
        panics::drop_quietly(partials);
    }
}
