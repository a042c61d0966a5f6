//! Runs one procedure where its method says, and reports its end whatever becomes of it.

use std::{
    any::Any,
    future::{Future, poll_fn},
    mem,
    panic::AssertUnwindSafe,
    pin::pin,
    task::Poll,
};

use futures_util::FutureExt;
use tokio::{runtime::Handle, sync::mpsc};

use super::worker_driver::Command;
use crate::{
    context::Context,
    proto::{
        message::{ErrorCode, Payload},
        timer::Execution,
        worker::Finish,
    },
    service::{Failure, Mode, Outcome, Procedure},
};

/// Starts a procedure; its end comes as a [`Command::Finish`].
pub(crate) fn spawn(user: &Handle, procedure: Procedure, context: Context, arguments: Payload) {
    let mode = procedure.descriptor.mode;
    let run = run(procedure, context, arguments);
    match mode {
        Mode::Task => drop(user.spawn(run)),
        Mode::Inline => drop(tokio::spawn(run)),
        Mode::Blocking => {
            let handle = user.clone();
            drop(user.spawn_blocking(move || handle.block_on(run)));
        }
    }
}

/// Reports how the procedure ended, when it is dropped: a runtime that shuts down drops its tasks.
struct Report {
    execution: Execution,
    commands: mpsc::UnboundedSender<Command>,
    finish: Finish,
}

impl Drop for Report {
    fn drop(&mut self) {
        let finish = mem::replace(&mut self.finish, Finish::Aborted);
        let _ = self.commands.send(Command::Finish(self.execution, finish));
    }
}

fn run(procedure: Procedure, context: Context, arguments: Payload) -> impl Future<Output = ()> + Send {
    // Made before the task is: one that is dropped before its first poll reports too.
    let report =
        Report { execution: context.execution(), commands: context.commands().clone(), finish: Finish::NotStarted };
    async move {
        let mut report = report;
        // A call that has ended while it waited for a thread is not worth starting.
        if context.is_cancelled() {
            return;
        }
        report.finish = Finish::Aborted;
        let cancelled = context.clone();
        // The start itself is user code too: cloning what the service holds may panic.
        let outcome = async move { procedure.start(context, arguments).await };
        if let Some(outcome) = unless_cancelled(AssertUnwindSafe(outcome).catch_unwind(), &cancelled).await {
            report.finish = finish_of(outcome);
        }
    }
}

/// Gives the outcome, or `None` when the call is cancelled first; the procedure is dropped then.
async fn unless_cancelled<T>(outcome: impl Future<Output = T>, context: &Context) -> Option<T> {
    let (mut outcome, mut cancelled) = (pin!(outcome), pin!(context.cancelled()));
    poll_fn(|cx| match outcome.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => cancelled.as_mut().poll(cx).map(|()| None),
    })
    .await
}

fn finish_of(outcome: Result<Outcome, Box<dyn Any + Send>>) -> Finish {
    let error = |code, detail, payload| Finish::Error { code, detail, payload };
    match outcome {
        Ok(Ok(payload)) => Finish::Reply(payload),
        Ok(Err(Failure::Application(payload))) => error(ErrorCode::Application, String::new(), payload),
        Ok(Err(Failure::InvalidArguments(reason))) => {
            error(ErrorCode::InvalidArguments, reason.to_string(), Payload::default())
        }
        Ok(Err(Failure::InvalidReply(reason))) => {
            error(ErrorCode::InvalidReply, reason.to_string(), Payload::default())
        }
        Err(panic) => error(ErrorCode::Panicked, panic_message(&*panic), Payload::default()),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
