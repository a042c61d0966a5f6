//! Commands from callers to a client's I/O thread.

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

/// A command from a handle or call to the I/O thread.
#[derive(Debug)]
pub(crate) enum Command {
    Call(CallId, CallSpec, CallSink),
    Cancel(CallId),
    Counters(oneshot::Sender<DispatcherCounters>),
    Drain(Duration, oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
    /// Answer after this duration.
    Wake(Duration, oneshot::Sender<()>),
}

/// Where the I/O thread sends the replies of a call.
#[derive(Debug)]
pub(crate) struct CallSink {
    pub(crate) end: oneshot::Sender<CallEnd>,
    pub(crate) partials: Option<PartialSender>,
}

impl CallSink {
    /// Ends the call, if somebody waits for it.
    pub(crate) fn end(self, end: CallEnd) {
        let Self { end: sender, partials } = self;
        // Each send wakes the caller, whose waker may panic.
        panics::wake(|| sender.send(end));
        panics::drop_quietly(partials);
    }
}
