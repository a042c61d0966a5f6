//! User code that a turn leads to: wakers, and drops of user values.

/// Runs user code in turns of the I/O thread and the reader, whichever thread's turn leads to it.
///
/// A caller's thread may hold a lock that the code takes, such as its executor's. It would wait for itself then, and
/// every other thread for the turn.
#[derive(Default)]
pub(crate) struct Errands {
    /// Whether a caller takes the turn.
    are_put_off: bool,
    put_off: Vec<Box<dyn FnOnce() + Send>>,
}

impl Errands {
    /// Runs the code at once; in a caller's turn, leaves it to the next other one.
    ///
    /// The code catches its own panics.
    pub(crate) fn run(&mut self, code: impl FnOnce() + Send + 'static) {
        match self.are_put_off {
            true => self.put_off.push(Box::new(code)),
            false => code(),
        }
    }

    /// Whether this is a caller's turn.
    pub(crate) fn are_put_off(&self) -> bool {
        self.are_put_off
    }

    /// Puts off the code of the caller's turn that begins now.
    pub(super) fn put_off(&mut self) {
        self.are_put_off = true;
    }

    /// Runs what was put off, and from now on all code at once.
    pub(super) fn catch_up(&mut self) {
        self.are_put_off = false;
        self.put_off.drain(..).for_each(|code| code());
    }

    /// Whether something was put off.
    pub(super) fn are_waiting(&self) -> bool {
        !self.put_off.is_empty()
    }
}
