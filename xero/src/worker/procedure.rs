//! Runs one procedure where its method says, and reports its end whatever becomes of it.

use std::{
    any::Any,
    convert::Infallible,
    future::{Future, poll_fn},
    mem,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    task::{self, Poll},
};

use futures_util::FutureExt;
use tokio::{runtime::Handle, sync::mpsc};
use tracing::{Instrument, Span, error, error_span};
use uuid::Uuid;

use super::{
    command::Command,
    context::Context,
    park,
    service::{BoundService, Failure, Mode, Outcome, Procedure, Running},
};
use crate::{
    io::{
        guest::{Guest, describe_panic},
        panics,
    },
    proto::{
        message::{ErrorCode, Payload, Peer},
        timer::Execution,
        worker::Finish,
    },
};

/// One execution of a procedure: its input, and its part in what is served.
pub(super) struct Job {
    pub(super) procedure: Procedure,
    pub(super) context: Context,
    pub(super) arguments: Payload,
    /// Who asks for it.
    pub(super) peer: Peer,
    /// The last to be dropped.
    pub(super) lease: Lease,
}

/// Keeps the services alive while a procedure runs. A procedure drops its lease last, so the services are dropped by
/// their guest, which knows where, and never by a procedure that has outlived its worker.
#[derive(Clone)]
pub(super) struct Lease {
    pub(super) services: Arc<Guest<Served>>,
    /// Where procedures run.
    pub(super) user: Handle,
    /// The driver's receiver ends when no procedure holds one any more.
    pub(super) _held: mpsc::Sender<Infallible>,
}

/// What a worker serves.
pub(super) struct Served {
    pub(super) worker: Uuid,
    pub(super) services: Vec<BoundService>,
}

impl Drop for Served {
    /// The worker leaves after this. A `Drop` that waits until it has left returns at once, as in a procedure.
    fn drop(&mut self) {
        let services = mem::take(&mut self.services);
        CURRENT.sync_scope((self.worker, Execution(0)), || drop(services));
    }
}

/// Starts a procedure; its end comes as a [`Command::Finish`].
pub(super) fn spawn(job: Job) {
    let (mode, user) = (job.procedure.descriptor.mode, job.lease.user.clone());
    let run = run(job);
    match mode {
        Mode::Task => drop(user.spawn(run)),
        Mode::Inline => drop(tokio::spawn(run)),
        Mode::Blocking => drop(user.spawn_blocking(move || park::block_on(run))),
    }
}

/// The execution of that worker that calls this, from its future or from what that blocks on; `None` outside of any. The
/// `Drop` of a service has a number that no procedure has.
pub(crate) fn current(worker: Uuid) -> Option<Execution> {
    let current = CURRENT.try_with(|current| *current).ok();
    current.filter(|(of, _)| *of == worker).map(|(_, execution)| execution)
}

tokio::task_local! {
    /// The worker and the execution whose procedure is being polled.
    static CURRENT: (Uuid, Execution);
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

fn run(job: Job) -> impl Future<Output = ()> + Send {
    // Made before the task is: one that is dropped before its first poll reports too.
    let (execution, commands) = (job.context.execution(), job.context.commands().clone());
    let report = Report { execution, commands, finish: Finish::NotStarted };
    async move {
        // Bound first, so dropped last.
        let Job { lease, procedure, context, arguments, peer } = job;
        let mut report = report;
        // A call that has ended while it waited for a thread is not worth starting.
        if context.is_unwanted() {
            return;
        }
        report.finish = Finish::Aborted;
        let span = span(&context, peer);
        let outcome = execute(procedure, context.clone(), arguments, span.clone(), lease.clone());
        let outcome = CURRENT.scope((context.worker(), execution), outcome);
        let outcome = unless_cancelled(AssertUnwindSafe(outcome).catch_unwind(), &context);
        if let Some(outcome) = outcome.instrument(span.clone()).await {
            report.finish = span.in_scope(|| finish_of(outcome, &context));
        }
    }
}

/// Names the call that the log lines of a procedure belong to. Every filter that shows such a line shows this span: a
/// filter for levels treats a span like a line of its level.
fn span(context: &Context, peer: Peer) -> Span {
    let (service, method) = context.names();
    error_span!("procedure", call = %context.call(), service, method, attempt = context.attempt(), peer = peer.0)
}

/// The start is user code too: cloning what the service holds may panic.
async fn execute(procedure: Procedure, context: Context, arguments: Payload, span: Span, lease: Lease) -> Outcome {
    let running = Some(procedure.start(context.clone(), arguments));
    let running = Droppable { running, context, span };
    match procedure.descriptor.mode {
        Mode::Inline => Visit::new(running, lease).await,
        Mode::Task | Mode::Blocking => running.await,
    }
}

/// A procedure that may be dropped halfway, wherever that is: within its span, and without a panic that others must
/// catch. Tokio aborts the process where the payload of such a panic panics in turn.
struct Droppable {
    running: Option<Running>,
    context: Context,
    span: Span,
}

impl Future for Droppable {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Outcome> {
        let running = self.running.as_mut().expect("only the drop takes it");
        running.as_mut().poll(cx)
    }
}

impl Drop for Droppable {
    fn drop(&mut self) {
        let (running, current) = (self.running.take(), (self.context.worker(), self.context.execution()));
        let _inside = self.span.enter();
        if let Err(panic) = panics::catch(|| CURRENT.sync_scope(current, || drop(running))) {
            log_panic(&describe_panic(panic), &self.context);
        }
    }
}

/// A procedure on the I/O thread. Its tasks and timers are those of the user's runtime, and what it holds when it is
/// stopped halfway is dropped there.
struct Visit {
    guest: Guest<(Droppable, Lease)>,
    user: Handle,
}

impl Visit {
    fn new(running: Droppable, lease: Lease) -> Self {
        let user = lease.user.clone();
        Self { guest: Guest::of(&user, (running, lease)), user }
    }
}

impl Future for Visit {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Outcome> {
        let Self { guest, user } = &mut *self;
        let _inside = user.enter();
        let outcome = Pin::new(&mut guest.0).poll(cx);
        if outcome.is_ready() {
            // It has dropped everything by itself.
            guest.leave();
        }
        outcome
    }
}

/// Gives the outcome, or `None` when the call is cancelled first; the procedure is dropped then.
async fn unless_cancelled<T>(outcome: impl Future<Output = T>, context: &Context) -> Option<T> {
    let (mut outcome, mut cancelled) = (pin!(outcome), pin!(context.unwanted()));
    poll_fn(|cx| match outcome.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => cancelled.as_mut().poll(cx).map(|()| None),
    })
    .await
}

fn finish_of(outcome: Result<Outcome, Box<dyn Any + Send>>, context: &Context) -> Finish {
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
        Err(panic) => {
            let message = describe_panic(panic);
            log_panic(&message, context);
            error(ErrorCode::Panicked, message, Payload::default())
        }
    }
}

/// A filter by targets may drop the span and keep this.
fn log_panic(message: &str, context: &Context) {
    error!(call = %context.call(), method = context.method(), panic = message, "the procedure panicked");
}
