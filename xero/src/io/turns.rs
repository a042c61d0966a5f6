//! The I/O thread's turns: commands and messages at hand, then timeouts, then transmits.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    sync::oneshot,
    time::{Sleep, sleep_until, timeout},
};

use super::{
    clock,
    driver::{Driver, Role, TURN_BOUND},
    engine::{Desk, Engine},
    panics,
};

/// Drives a role on its I/O thread until its machine has ended. Returns what is left of it.
///
/// The second value is an error if a turn panicked: user code, such as a policy, runs there too. The machine is unusable
/// then.
pub(crate) async fn drive<R: Role>(driver: Driver<R>) -> (Driver<R>, Result<(), Box<dyn Any + Send>>) {
    let engine = Engine::new(driver);
    let mut turns = Turns::default();
    let ended = poll_fn(|cx| {
        engine.register(cx);
        let mut desk = engine.wait();
        let rings = engine.rings();
        let poll = turns.poll_at(&mut desk, cx);
        if engine.leave(desk, rings) {
            cx.waker().wake_by_ref();
        }
        poll
    })
    .await;
    let mut driver = engine.wait().driver.take().expect("only the end of the drive takes it");
    // After a panic on another thread, some may be left.
    driver.run_errands();
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
#[derive(Debug, Default)]
struct Turns {
    alarm: Alarm,
    late: u32,
}

impl Turns {
    fn poll_at<R: Role>(&mut self, desk: &mut Desk<R>, cx: &mut Context<'_>) -> Poll<Result<(), Box<dyn Any + Send>>> {
        if let Some(panic) = desk.take_panic() {
            return Poll::Ready(Err(panic));
        }
        let Some(driver) = &mut desk.driver else { return Poll::Pending };
        let poll = match catch_unwind(AssertUnwindSafe(|| self.poll(driver, cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        };
        desk.alarm = driver.poll_timeout();
        poll
    }

    fn poll(&mut self, driver: &mut Driver<impl Role>, cx: &mut Context<'_>) -> Poll<()> {
        driver.run_errands();
        loop {
            let taken = take_inputs(driver, cx);
            let now = clock::now();
            let is_due = driver.poll_timeout().is_some_and(|at| at <= now) && !self.must_look_again(driver, taken, now);
            if is_due {
                driver.handle_timeout(now);
            } else if self.late > 0 {
                driver.handle_heartbeats(now);
            }
            driver.transmit(now);
            driver.finish_turn();
            if driver.has_ended() {
                return Poll::Ready(());
            }
            // More input may be ready: let the reactor and the transport's own tasks run first, then return.
            if taken >= TURN_BOUND || self.late > 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            // Due timeouts may have opened something that must be polled before it can wake this task.
            if !is_due && self.alarm.poll(cx, driver.poll_timeout()).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Whether this thread was held up so long that the reactor must look at the sockets first.
    ///
    /// They may hold messages that answer the due timeouts: a process that was frozen must not treat its peers as dead.
    fn must_look_again(&mut self, driver: &Driver<impl Role>, taken: usize, now: Instant) -> bool {
        let is_late = driver.poll_timeout().is_some_and(|at| at + LATE <= now);
        // Once the reactor has looked, continue only while there is something to read.
        let must = is_late && self.late < LATE_TURNS_MAX && (self.late == 0 || taken > 0);
        self.late = if must { self.late + 1 } else { 0 };
        must
    }
}

/// A timeout handled later than this was held up: by a frozen process, a suspended machine or a flood.
const LATE: Duration = Duration::from_millis(100);

/// The most turns that put off timeouts, so that a flood cannot put them off for ever.
const LATE_TURNS_MAX: u32 = 1024;

fn take_inputs(driver: &mut Driver<impl Role>, cx: &mut Context<'_>) -> usize {
    let mut taken = 0;
    while taken < TURN_BOUND {
        match driver.poll_inputs(cx) {
            0 => break,
            count => taken += count,
        }
    }
    taken
}

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
