//! A user's future in a task of ours.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tracing::error;

use super::{
    guest::describe_panic,
    panics::{catch, drop_quietly},
};

/// A user's future in a task.
///
/// A panic of its `poll` ends it, a panic of its `Drop` is ignored, and both are logged. Otherwise Tokio would abort
/// the process if the payload of such a panic panicked in turn.
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
                error!(panic = describe_panic(panic), "{} has panicked", self.what);
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
