//! The I/O thread's turns: commands and messages at hand, then timeouts, then transmits.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Sleep, sleep_until, timeout},
};
use tracing::debug;

use super::{
    clock,
    driver::{Driver, LATE, Role, TURN_BOUND},
    engine::{Desk, Engine},
    panics,
    reader::Reader,
    watch::{Decision, Need, Watch},
};

/// Drives a role on its I/O thread until its machine has ended. Returns what is left of it.
///
/// With a runtime of the program, a task there reads the sockets, as long as that runtime is at work.
///
/// The second value is an error if a turn panicked: user code, such as a policy, runs there too. The machine is unusable
/// then.
pub(crate) async fn drive<R: Role>(
    driver: Box<Driver<R>>,
    program: Option<Handle>,
) -> (Box<Driver<R>>, Result<(), Box<dyn Any + Send>>) {
    let engine = Engine::new(driver, program);
    let mut turns = Turns::new(engine.reader());
    let ended = poll_fn(|cx| {
        engine.register(cx);
        let mut desk = engine.wait();
        let rings = engine.rings();
        let poll = turns.poll_at(&mut desk, cx);
        let left = engine.leave(desk, rings);
        if left.has_commands {
            cx.waker().wake_by_ref();
        }
        engine.see_to_errands(&left);
        poll
    })
    .await;
    let driver = engine.end();
    if let Some(reader) = engine.reader() {
        reader.dismiss();
    }
    engine.unregister();
    (driver, ended)
}

/// Answers after this duration on the I/O thread's clock: the caller's clock may be paused, or missing.
pub(crate) fn wake_after(time: Duration, mut sender: oneshot::Sender<()>) {
    tokio::spawn(async move {
        // A sender that has given up needs no answer.
        if timeout(time, sender.closed()).await.is_err() {
            panics::wake(|| sender.send(()));
        }
    });
}

/// State from one turn to the next.
#[derive(Debug)]
pub(super) struct Turns {
    alarm: Alarm,
    /// When the thread looks by itself, if it sleeps.
    sleeps_until: Option<Instant>,
    /// The turns so far that have put off timeouts, and since when.
    late: Option<(u32, Instant)>,
    /// When all was looked at that had arrived while this thread was held up.
    looked_at: Option<Instant>,
    /// Whether the sockets have just been taken, so that the reactor has not looked at them.
    is_fresh: bool,
    reader: Option<(Arc<Reader>, Watch)>,
}

impl Turns {
    pub(super) fn new(reader: Option<&Arc<Reader>>) -> Self {
        let reader = reader.map(|reader| (Arc::clone(reader), Watch::new(clock::now())));
        Self { alarm: Alarm::default(), sleeps_until: None, late: None, looked_at: None, is_fresh: false, reader }
    }

    fn poll_at<R: Role>(&mut self, desk: &mut Desk<R>, cx: &mut Context<'_>) -> Poll<Result<(), Box<dyn Any + Send>>> {
        if let Some(panic) = desk.take_panic() {
            return Poll::Ready(Err(panic));
        }
        let Some(driver) = &mut desk.driver else { return Poll::Pending };
        let poll = match catch_unwind(AssertUnwindSafe(|| self.poll(driver, cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        };
        // Without a sleep, another turn follows at once.
        desk.alarm = self.sleeps_until.or_else(|| driver.poll_timeout());
        poll
    }

    fn poll(&mut self, driver: &mut Driver<impl Role>, cx: &mut Context<'_>) -> Poll<()> {
        self.sleeps_until = None;
        loop {
            let looked_at = clock::now();
            let look_at = self.look(driver, looked_at);
            let next = match self.reads() {
                true => self.take_turn(driver, cx),
                false => self.stand_by(driver),
            };
            driver.finish_turn();
            if driver.has_ended() {
                return Poll::Ready(());
            }
            match next {
                Next::Again => {
                    // More input may be ready: let the reactor and the transport's own tasks run first, then return.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                // Due timeouts may have opened something that must be polled before it can wake this task.
                Next::Look => {}
                Next::Sleep => {
                    // What was due when it looked is for the watch.
                    let timeout = driver.poll_timeout().filter(|at| self.reads() || *at > looked_at);
                    let at = [timeout, look_at].into_iter().flatten().min();
                    self.sleeps_until = at;
                    if self.alarm.poll(cx, at).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Whether the I/O thread reads the sockets.
    fn reads(&self) -> bool {
        self.reader.as_ref().is_none_or(|(reader, _)| !reader.has_sockets())
    }

    /// A turn of the thread that reads the sockets.
    fn take_turn(&mut self, driver: &mut Driver<impl Role>, cx: &mut Context<'_>) -> Next {
        let taken = driver.take_inputs(cx);
        let now = clock::now();
        let is_due = !self.must_look_again(driver, taken, now) && driver.is_due(now);
        if is_due {
            driver.handle_timeout(now);
        } else if self.late.is_some() {
            driver.handle_heartbeats(now);
        }
        driver.transmit(now);
        match (taken >= TURN_BOUND || self.late.is_some(), is_due) {
            (true, _) => Next::Again,
            (false, true) => Next::Look,
            (false, false) => Next::Sleep,
        }
    }

    /// A turn while the reader has the sockets: peers hear from this side, whatever the program's runtime does.
    fn stand_by(&mut self, driver: &mut Driver<impl Role>) -> Next {
        let (taken, now) = driver.take_commands();
        driver.handle_heartbeats(now);
        driver.transmit(now);
        // The watch looks at what is still due.
        match taken >= TURN_BOUND {
            true => Next::Again,
            false => Next::Sleep,
        }
    }

    /// Decides whose the sockets are. Returns when to look again.
    fn look(&mut self, driver: &mut Driver<impl Role>, now: Instant) -> Option<Instant> {
        let (reader, watch) = self.reader.as_mut()?;
        let has_sockets = reader.has_sockets();
        if reader.has_ended() {
            if has_sockets {
                self.take_sockets(driver);
            }
            self.reader = None;
            return None;
        }
        let is_late = driver.is_late(now);
        if has_sockets {
            // Who finds from now on that something is owed need not wake this thread.
            reader.begin_watch();
            driver.handle_heartbeats(now);
        }
        let need = match driver.need() {
            _ if driver.is_due(now) => Need::Timeouts,
            _ if reader.is_called() => Need::Replies,
            need => need,
        };
        let is_idle = has_sockets && need == Need::News;
        let decision = match is_late && has_sockets {
            true => watch.take(now),
            false => watch.look(now, reader.answers(), need),
        };
        match decision {
            Decision::Wait(at) if is_idle => {
                reader.end_watch();
                // Either this finds the call, or the caller finds that the watch has ended.
                Some(if reader.is_called() { at.min(now + LOOK_AGAIN) } else { at })
            }
            Decision::Wait(at) => Some(at),
            Decision::Rest => None,
            Decision::Ask(at) => {
                reader.call();
                Some(at)
            }
            Decision::Take => {
                self.take_sockets(driver);
                Some(now)
            }
            Decision::Give => {
                if !driver.rehome(reader.runtime()) {
                    debug!("the program's runtime has no reactor");
                    reader.dismiss();
                    self.take_sockets(driver);
                    self.reader = None;
                    return None;
                }
                debug!("the program's runtime reads the sockets");
                reader.set_has_sockets(true);
                reader.call();
                Some(now)
            }
        }
    }

    fn take_sockets(&mut self, driver: &mut Driver<impl Role>) {
        debug!("the I/O thread reads the sockets");
        driver.rehome(&Handle::current());
        self.is_fresh = true;
        if let Some((reader, _)) = &self.reader {
            reader.set_has_sockets(false);
        }
    }

    /// Whether the sockets must be looked at first, because this thread was held up, or has just got them.
    ///
    /// They may hold messages that answer the due timeouts: a process that was frozen must not treat its peers as dead.
    pub(super) fn must_look_again(&mut self, driver: &Driver<impl Role>, taken: usize, now: Instant) -> bool {
        // What has become due since it looked is as good as in time.
        let has_looked = self.looked_at.is_some_and(|at| now < at + LATE);
        let was_away = driver.is_late(now) && !has_looked || self.is_fresh;
        let (turns, since) = self.late.unwrap_or((0, now));
        // Once the reactor has looked, continue only while there is something to read.
        let goes_on = turns == 0 || taken > 0 || driver.is_behind();
        let must = was_away && goes_on && turns < LATE_TURNS_MAX && now < since + LATE_MAX;
        if was_away && !must {
            self.looked_at = Some(now);
        }
        self.is_fresh &= must;
        self.late = must.then_some((turns + 1, since));
        must
    }
}

/// What follows a turn of the I/O thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Another one, after the reactor and other tasks.
    Again,
    /// Another one at once.
    Look,
    /// One when something happens.
    Sleep,
}

/// The most turns that put off timeouts, so that a flood cannot put them off for ever.
const LATE_TURNS_MAX: u32 = 1024;

/// The longest time of these turns.
pub(super) const LATE_MAX: Duration = Duration::from_secs(1);

/// When to look again at a call that has just come.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The machine's next timeout as a future.
#[derive(Debug, Default)]
struct Alarm {
    sleep: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Alarm {
    /// Ready at the instant `at`; pending for ever without one.
    fn poll(&mut self, cx: &mut Context<'_>, at: Option<Instant>) -> Poll<()> {
        let Some(at) = at else { return Poll::Pending };
        match &mut self.sleep {
            Some((current, sleep)) if *current != at => {
                *current = at;
                sleep.as_mut().reset(at.into());
            }
            Some(_) => {}
            None => self.sleep = Some((at, Box::pin(sleep_until(at.into())))),
        }
        match &mut self.sleep {
            Some((_, sleep)) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{runtime::Handle, task::yield_now};

    use super::*;

    #[tokio::test]
    async fn abandoned_wait_ends_before_its_time() {
        let (sender, receiver) = oneshot::channel();
        wake_after(Duration::from_secs(3600), sender);
        yield_now().await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 1);
        drop(receiver);
        for _ in 0..10 {
            yield_now().await;
        }
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }

    #[tokio::test]
    async fn wait_ends_after_its_time() {
        let (sender, receiver) = oneshot::channel();
        wake_after(Duration::from_millis(1), sender);
        assert_eq!(receiver.await, Ok(()));
    }
}
