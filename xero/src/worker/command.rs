//! Commands from handles and procedures to a worker's I/O thread.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::{
    io::{mailbox::Commands, thread::Owned},
    proto::{
        message::Payload,
        timer::Execution,
        worker::{Finish, WorkerCounters},
    },
};

/// A command from a handle or a procedure to the I/O thread.
#[derive(Debug)]
pub(crate) enum Command {
    Finish(Execution, Finish),
    Partial(Execution, Payload),
    Counters(oneshot::Sender<WorkerCounters>),
    Drain,
    /// Answer once the worker drains and every running execution has sent this command.
    AwaitOthers(Execution, oneshot::Sender<()>),
    /// Answer after this duration.
    Wake(Duration, oneshot::Sender<()>),
    #[cfg(test)]
    Panic,
}

/// Drains the worker when dropped.
#[derive(Debug)]
pub(crate) struct Sentinel(pub(crate) Owned<Commands<Command>>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        if let Some(commands) = self.0.here() {
            let _ = commands.send(Command::Drain);
        }
    }
}
