//! What handles and procedures ask of a worker's I/O thread.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::{
    io::thread::Owned,
    proto::{
        message::Payload,
        timer::Execution,
        worker::{Finish, WorkerCounters},
    },
};

/// What handles and procedures ask of the I/O thread.
#[derive(Debug)]
pub(crate) enum Command {
    Finish(Execution, Finish),
    Partial(Execution, Payload),
    Counters(oneshot::Sender<WorkerCounters>),
    Drain,
    /// Answer once the worker drains and every execution that still runs has asked this.
    AwaitOthers(Execution, oneshot::Sender<()>),
    /// Answer after that time.
    Wake(Duration, oneshot::Sender<()>),
    #[cfg(test)]
    Panic,
}

/// Drains the worker when it is dropped.
#[derive(Debug)]
pub(crate) struct Sentinel(pub(crate) Owned<mpsc::UnboundedSender<Command>>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        if let Some(commands) = self.0.here() {
            let _ = commands.send(Command::Drain);
        }
    }
}
