//! What a panic says, and the end of its payload.

use std::{
    any::Any,
    future::{Future, poll_fn},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use tracing::error;

use super::guest::Guest;

/// The panic's text. A payload that is no text becomes a [`Guest`]: its `Drop` may block, or panic again.
pub(super) fn describe(panic: Box<dyn Any + Send>) -> String {
    describe_guest(Guest::new(panic))
}

/// The same for a payload whose user is known.
pub(super) fn describe_guest(mut panic: Guest<Box<dyn Any + Send>>) -> String {
    match text(&**panic) {
        Some(text) => {
            let text = text.to_owned();
            panic.leave();
            text
        }
        None => NO_TEXT.to_owned(),
    }
}

/// Drops a user's value and logs a panic of its `Drop`. The payload of that panic is leaked unless it is a text: its `Drop`
/// may panic again.
pub(crate) fn drop_quietly<T>(value: T) {
    if let Err(panic) = catch(|| drop(value)) {
        error!(panic = text(&*panic).unwrap_or(NO_TEXT), "a value has panicked when it was dropped");
        leak_unless_text(panic);
    }
}

/// Runs a user's code, and gives the payload if it panics.
pub(super) fn catch<T>(code: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(code))
}

/// Runs code of ours that wakes whoever waits, and thereby wakers of the user's: one that panics costs nobody else
/// anything.
pub(crate) fn wake<T>(code: impl FnOnce() -> T) -> Option<T> {
    match catch(code) {
        Ok(value) => Some(value),
        Err(panic) => {
            error!(panic = text(&*panic).unwrap_or(NO_TEXT), "a waker has panicked");
            leak_unless_text(panic);
            None
        }
    }
}

/// Polls a user's wait for what others wait for too, with a waker whose panic is caught: Tokio would wake none of the
/// waiters that come after it.
pub(crate) async fn shielded<T>(wait: impl Future<Output = T>) -> T {
    let mut wait = pin!(wait);
    poll_fn(|cx| {
        let waker = Waker::from(Arc::new(Shield(cx.waker().clone())));
        wait.as_mut().poll(&mut Context::from_waker(&waker))
    })
    .await
}

struct Shield(Waker);

impl Wake for Shield {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        wake(|| self.0.wake_by_ref());
    }
}

fn leak_unless_text(panic: Box<dyn Any + Send>) {
    if text(&*panic).is_none() {
        mem::forget(panic);
    }
}

fn text(panic: &(dyn Any + Send)) -> Option<&str> {
    panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied())
}

const NO_TEXT: &str = "a panic whose payload is no text";

/// A user's future in a task. A panic of its `poll` ends it, one of its `Drop` is ignored, and both are logged. Tokio
/// would abort the process where the payload of such a panic panics in turn.
pub(crate) struct Contained {
    what: &'static str,
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Contained {
    /// The log names the future by `what`.
    pub(crate) fn new(what: &'static str, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Self {
        Self { what, future: Some(future) }
    }
}

impl Future for Contained {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.future else { return Poll::Ready(()) };
        match catch(|| future.as_mut().poll(cx)) {
            Ok(poll) => poll,
            Err(panic) => {
                error!(panic = describe(panic), "{} has panicked", self.what);
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        drop_quietly(self.future.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_repeated_and_other_payloads_are_named() {
        assert_eq!(describe(Box::new("a text")), "a text");
        assert_eq!(describe(Box::new("a text".to_owned())), "a text");
        assert_eq!(describe(Box::new(7)), "a panic whose payload is no text");
    }

    #[test]
    fn payload_whose_drop_panics_again_and_again_harms_nobody() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                std::panic::panic_any(Self);
            }
        }
        assert_eq!(describe(Box::new(Bomb)), "a panic whose payload is no text");
        drop_quietly(Bomb);
    }

    #[test]
    fn waker_that_panics_is_told_from_one_that_does_not() {
        assert_eq!(wake(|| 7), Some(7));
        assert_eq!(wake(|| panic!("a waker that panics")), None::<u32>);
    }
}
