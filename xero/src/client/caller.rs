//! The state that a client and its calls share: channels to the I/O thread, defaults, call numbers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use super::command::{CallSink, Command};
use crate::{
    error::Place,
    info::Workers,
    io::{
        mailbox::Commands,
        thread::{Gone, Owned},
    },
    proto::{
        calls::{CallFailure, CallSpec},
        message::{CallId, Codec},
    },
};

/// A client without its user methods. A call holds one, and so keeps its client open.
#[derive(Clone)]
pub(super) struct Caller {
    shared: Arc<Shared>,
}

/// The ends of its channels to the I/O thread.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) commands: Commands<Command>,
    pub(super) workers: watch::Receiver<Workers>,
}

struct Shared {
    ends: Owned<Ends>,
    place: Place,
    /// The endpoint or the brokers, as text.
    endpoint: String,
    timeout: Duration,
    codec: Codec,
    call_sequence: AtomicU64,
}

impl Caller {
    pub(super) fn new(ends: Owned<Ends>, place: Place, timeout: Duration, codec: Codec) -> Self {
        let endpoint = match &place {
            Place::Bound(endpoint) => endpoint.clone(),
            Place::Brokers(endpoints) => endpoints.join(", "),
        };
        // Half of the range, from a random start: ids never repeat in this life, and hardly in the next.
        let call_sequence = AtomicU64::new(Uuid::new_v4().as_u64_pair().0 >> 1);
        Self { shared: Arc::new(Shared { ends, place, endpoint, timeout, codec, call_sequence }) }
    }

    pub(super) fn place(&self) -> &Place {
        &self.shared.place
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.shared.endpoint
    }

    pub(super) fn timeout(&self) -> Duration {
        self.shared.timeout
    }

    pub(super) fn codec(&self) -> Codec {
        self.shared.codec
    }

    pub(super) fn next_call(&self) -> CallId {
        CallId(self.shared.call_sequence.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn send(&self, id: CallId, spec: CallSpec, sink: CallSink) {
        let Some(ends) = self.shared.ends.here() else { return refuse(sink) };
        if let Err(Command::Call(_, _, sink)) = ends.commands.send(Command::Call(id, spec, sink)) {
            refuse(sink);
        }
    }

    pub(super) fn cancel(&self, id: CallId) {
        if let Some(ends) = self.shared.ends.here() {
            let _ = ends.commands.send(Command::Cancel(id));
        }
    }

    /// The future's value; `None` in a forked process, which has no I/O thread to give it.
    pub(super) async fn answer<A>(&self, future: impl Future<Output = A>) -> Option<A> {
        self.shared.ends.answer(future).await
    }

    /// Why the client is of no use any more, if it is not.
    pub(super) fn gone(&self) -> Option<Gone> {
        self.open().err()
    }

    /// Whether this process was forked from the client's.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.shared.ends.here().is_none()
    }

    /// The I/O thread's answer; `None` if the thread has ended, or belongs to another process.
    pub(super) async fn ask<A>(&self, command: impl FnOnce(oneshot::Sender<A>) -> Command) -> Option<A> {
        let (sender, receiver) = oneshot::channel();
        let _ = self.shared.ends.here()?.commands.send(command(sender));
        self.shared.ends.answer(receiver).await?.ok()
    }

    /// The channel ends, or why nobody holds the other ends.
    pub(super) fn open(&self) -> Result<&Ends, Gone> {
        self.shared.ends.open(|ends| ends.commands.is_closed())
    }
}

fn refuse(sink: CallSink) {
    let _ = sink.end.send(Err(CallFailure::Closed { maybe_executed: false }));
}
