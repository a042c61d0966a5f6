//! User code that a turn leads to: wakers, and drops of user values.

use std::mem;

/// Runs user code on the I/O thread, or after the turn of a reader, whichever thread takes the turn.
///
/// A caller's thread may hold a lock that the code takes, such as its executor's. It would wait for itself then, and
/// every other thread for the turn.
#[derive(Default)]
pub(crate) struct Errands {
    /// Whether another thread takes the turn.
    are_put_off: bool,
    put_off: Vec<Errand>,
}

/// Code that a turn has left for later.
pub(super) type Errand = Box<dyn FnOnce() + Send>;

impl Errands {
    /// Runs the code at once on the I/O thread; on another thread, leaves it to the I/O thread.
    ///
    /// The code catches its own panics.
    pub(crate) fn run(&mut self, code: impl FnOnce() + Send + 'static) {
        match self.are_put_off {
            true => self.put_off.push(Box::new(code)),
            false => code(),
        }
    }

    /// What was put off so far.
    pub(super) fn take(&mut self) -> Vec<Errand> {
        mem::take(&mut self.put_off)
    }

    /// Puts off the code of the turn that begins now, on another thread.
    pub(super) fn put_off(&mut self) {
        self.are_put_off = true;
    }

    /// Runs what was put off. Only the I/O thread calls it.
    pub(super) fn catch_up(&mut self) {
        self.are_put_off = false;
        self.put_off.drain(..).for_each(|code| code());
    }

    /// Whether something was put off.
    pub(super) fn are_waiting(&self) -> bool {
        !self.put_off.is_empty()
    }
}
