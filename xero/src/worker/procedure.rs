//! Runs one procedure in its method's mode, and reports its end in every case.

use std::{
    any::Any,
    convert::Infallible,
    future::Future,
    mem,
    ops::Deref,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{self, Poll, ready},
};

use tokio::{runtime::Handle, sync::mpsc};
use tracing::{Span, error, error_span, warn};
use uuid::Uuid;

use super::{
    command::Command,
    context::Context,
    park,
    service::{BoundService, Failure, Mode, Outcome, Procedure, Running},
};
use crate::{
    io::{
        current::{CURRENT, Current, within_drop},
        guest::{Guest, describe_panic},
        mailbox::Commands,
        panics,
        thread::Owned,
    },
    proto::{
        message::{ErrorCode, Payload, Peer},
        timer::Execution,
        worker::Finish,
    },
};

/// One execution of a procedure: its input, and its lease on the services.
pub(super) struct Job {
    pub(super) procedure: Procedure,
    pub(super) context: Context,
    pub(super) arguments: Payload,
    /// The peer that sent the request.
    pub(super) peer: Peer,
    /// Dropped last.
    pub(super) lease: Lease,
}

/// Keeps the services alive while a procedure runs.
///
/// A procedure drops its lease last. So the guest of the services drops them in the right place, never a procedure that
/// has outlived its worker.
#[derive(Clone)]
pub(super) struct Lease(Arc<Leased>);

/// What procedures keep alive.
pub(super) struct Leased {
    pub(super) services: Arc<Guest<Served>>,
    /// The runtime of the procedures.
    pub(super) user: Handle,
    /// The runtime of the I/O thread.
    pub(super) io: Handle,
    /// The driver's receiver ends when the last procedure drops this.
    _held: mpsc::Sender<Infallible>,
}

impl Lease {
    /// The first lease. The receiver ends when the last one is dropped.
    pub(super) fn new(services: Guest<Served>, user: Handle, io: Handle) -> (Self, mpsc::Receiver<Infallible>) {
        let (held, released) = mpsc::channel(1);
        (Self(Arc::new(Leased { services: Arc::new(services), user, io, _held: held })), released)
    }
}

impl Deref for Lease {
    type Target = Leased;

    fn deref(&self) -> &Leased {
        &self.0
    }
}

/// The services of a worker.
pub(super) struct Served {
    pub(super) worker: Uuid,
    pub(super) services: Vec<BoundService>,
}

impl Drop for Served {
    /// The worker leaves after this. A `Drop` that waits until the worker has left returns at once, as in a procedure.
    /// Each service is dropped by itself: two panics at a time would abort the process.
    fn drop(&mut self) {
        for service in mem::take(&mut self.services) {
            within_drop(self.worker, || panics::drop_quietly(service));
        }
    }
}

/// Starts a procedure, which ends with a [`Command::Finish`]. A blocking one first waits for a thread, an inline one runs
/// where the sockets are read.
pub(super) fn spawn(job: Job, home: &Handle) -> Option<Queued> {
    let (mode, user) = (job.procedure.descriptor.mode, job.lease.user.clone());
    match mode {
        Mode::Task => drop(user.spawn(run(job))),
        Mode::Inline => drop(home.spawn(run(job))),
        Mode::Blocking => return Some(Queued::spawn(job, &user)),
    }
    None
}

/// A blocking procedure that waits for a thread of the pool.
///
/// It belongs to the first taker: that thread, or the cancelling of its call.
#[derive(Clone)]
pub(super) struct Queued(Arc<Mutex<Option<Waiting>>>);

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Queued {
    /// If no thread is free, the call ends as not started, which sends it to another worker.
    fn spawn(job: Job, user: &Handle) -> Self {
        let (call, method) = (job.context.call_id(), job.context.full_method());
        let queued = Self(Arc::new(Mutex::new(Some(Box::pin(run(job))))));
        let turn = Turn(queued.clone());
        // Tokio keeps the task when it panics for want of a thread, and may run it later.
        if let Err(panic) = panics::catch(|| drop(user.spawn_blocking(move || turn.run()))) {
            warn!(%call, method, reason = describe_panic(panic), "no thread is free for a blocking procedure");
            queued.withdraw();
        }
        queued
    }

    /// Whether the procedure still waits for a thread.
    pub(super) fn is_waiting(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Ends the procedure as not started, if it still waits for a thread.
    pub(super) fn withdraw(&self) {
        drop(self.take());
    }

    fn take(&self) -> Option<Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A task of the blocking pool. A pool that is shut down drops the task without running it.
struct Turn(Queued);

impl Turn {
    fn run(&self) {
        if let Some(procedure) = self.0.take() {
            park::block_on(procedure);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.withdraw();
    }
}

/// Reports the procedure's end when its last clone is dropped: a runtime that shuts down drops its tasks.
struct Report {
    execution: Execution,
    commands: Owned<Commands<Command>>,
    finish: Mutex<Finish>,
}

impl Report {
    fn set(&self, finish: Finish) {
        *self.finish.lock().unwrap_or_else(PoisonError::into_inner) = finish;
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let finish = mem::replace(&mut *self.finish.lock().unwrap_or_else(PoisonError::into_inner), Finish::Aborted);
        // In a forked process, the parent ends the call.
        if let Some(commands) = self.commands.here() {
            let _ = commands.send(Command::Finish(self.execution, finish));
        }
    }
}

fn run(job: Job) -> Run {
    let Job { procedure, context, arguments, peer, lease } = job;
    // Made before the task: one that is dropped before its first poll reports too.
    let (execution, commands) = (context.execution(), context.commands().clone());
    let report = Arc::new(Report { execution, commands, finish: Mutex::new(Finish::NotStarted) });
    let stage = Stage::New { procedure, arguments, peer };
    Run { stage, unwanted: None, span: Span::none(), context, report, lease }
}

/// The run of a procedure, until its end or its call's.
///
/// Written by hand because a task is moved several times: the same as an `async` block is four times as large. What a
/// procedure that ends at its first poll does not need is in boxes.
struct Run {
    stage: Stage,
    /// Ends with the call, once the procedure waits.
    unwanted: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    span: Span,
    context: Context,
    /// Dropped after what the procedure holds.
    report: Arc<Report>,
    /// Dropped last.
    lease: Lease,
}

enum Stage {
    New { procedure: Procedure, arguments: Payload, peer: Peer },
    Task(Droppable),
    Visit(Visit),
    Ended,
}

impl Future for Run {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let run = &mut *self;
        if let Stage::New { peer, .. } = &run.stage {
            // The call has ended while it waited for a thread.
            if run.context.is_unwanted() {
                return Poll::Ready(());
            }
            run.report.set(Finish::Aborted);
            run.span = span(&run.context, *peer);
        }
        let span = run.span.clone();
        let _inside = span.enter();
        let outcome = match panics::catch(|| CURRENT.sync_scope(current(&run.context), || run.poll_procedure(cx))) {
            Ok(Poll::Pending) => {
                let context = &run.context;
                let unwanted = run.unwanted.get_or_insert_with(|| Box::pin(context.clone().until_unwanted()));
                ready!(unwanted.as_mut().poll(cx));
                run.stage = Stage::Ended;
                return Poll::Ready(());
            }
            Ok(Poll::Ready(outcome)) => Ok(outcome),
            Err(panic) => Err(panic),
        };
        run.stage = Stage::Ended;
        // The payload of a panic is dropped within the user's runtime.
        let _inside = run.lease.user.enter();
        run.report.set(finish_of(outcome, &run.context));
        Poll::Ready(())
    }
}

impl Run {
    /// Polls the procedure. Its start is user code too: it clones what the service holds, and a clone may panic.
    fn poll_procedure(&mut self, cx: &mut task::Context<'_>) -> Poll<Outcome> {
        if let Stage::New { procedure, arguments, .. } = &mut self.stage {
            let running = Some(procedure.start(self.context.clone(), mem::take(arguments)));
            let running = Droppable { running, context: self.context.clone(), span: self.span.clone() };
            self.stage = match procedure.descriptor.mode {
                Mode::Inline => Stage::Visit(Visit::new(running, (Arc::clone(&self.report), self.lease.clone()))),
                Mode::Task | Mode::Blocking => Stage::Task(running),
            };
        }
        match &mut self.stage {
            Stage::Task(running) => Pin::new(running).poll(cx),
            Stage::Visit(visit) => Pin::new(visit).poll(cx),
            Stage::New { .. } | Stage::Ended => unreachable!("it has been started, and is not polled after its end"),
        }
    }
}

/// The execution, in the task that calls this.
fn current(context: &Context) -> Current {
    Current::new(context.worker_id(), context.execution())
}

/// The span of a procedure's log lines, which names its call.
///
/// Level filters treat a span like a line of its level, so every filter that shows such a line shows this span.
fn span(context: &Context, peer: Peer) -> Span {
    let (service, method) = (context.service(), context.method());
    error_span!("procedure", call = %context.call_id(), service, method, attempt = context.attempt(), peer = peer.0)
}

/// A procedure that may be dropped halfway: within its span, and without a panic that others must catch.
///
/// Tokio aborts the process if the payload of such a panic panics in turn.
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
        let (running, current) = (self.running.take(), current(&self.context));
        let _inside = self.span.enter();
        if let Err(panic) = panics::catch(|| CURRENT.sync_scope(current, || drop(running))) {
            log_panic(&describe_panic(panic), &self.context);
        }
    }
}

/// Held until the procedure's own values are gone: then its call ends, and the services may drop.
type Held = (Arc<Report>, Lease);

/// A procedure that runs where the sockets are read.
///
/// Its tasks and timers belong to the user's runtime. If it is stopped halfway, its values are dropped there.
struct Visit {
    /// Taken when it ends.
    running: Option<(Guest<Droppable>, Held)>,
    user: Handle,
}

impl Visit {
    fn new(running: Droppable, held: Held) -> Self {
        let user = held.1.user.clone();
        Self { running: Some((Guest::of(&user, running), held)), user }
    }
}

impl Future for Visit {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Outcome> {
        let Self { running, user } = &mut *self;
        let (guest, _) = running.as_mut().expect("a future is not polled after its end");
        let _inside = user.enter();
        let outcome = Pin::new(&mut **guest).poll(cx);
        if outcome.is_ready() {
            // It has dropped all its values by itself.
            guest.leave();
            *running = None;
        }
        outcome
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some((guest, held)) = self.running.take() {
            let io = held.1.io.clone();
            guest.dispose_meanwhile(&io, move || drop(held));
        }
    }
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
            let reason = reason.to_string();
            error!(call = %context.call_id(), method = context.full_method(), reason, "the reply cannot be sent");
            error(ErrorCode::InvalidReply, reason, Payload::default())
        }
        Err(panic) => {
            let message = describe_panic(panic);
            log_panic(&message, context);
            error(ErrorCode::Panicked, message, Payload::default())
        }
    }
}

/// A filter by targets may drop the span and keep this line.
fn log_panic(message: &str, context: &Context) {
    error!(call = %context.call_id(), method = context.full_method(), panic = message, "the procedure panicked");
}
