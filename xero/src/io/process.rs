//! Which process a value belongs to: a forked one has copies of everything, and none of the threads.

use std::sync::OnceLock;

use forkguard::Guard;

/// The process in which this value was made.
///
/// A fork is noticed by a handler of the C library's `fork`. One made around it, such as by the bare system call, is not.
#[derive(Clone, Debug)]
pub(crate) struct Process(Guard);

impl Process {
    /// The calling process. It costs no system call, then or later.
    pub(crate) fn current() -> Self {
        Self(forkguard::new())
    }

    /// Whether the calling process was forked since the first call of this function, in it or in a parent.
    pub(crate) fn is_a_fork() -> bool {
        static FIRST: OnceLock<Process> = OnceLock::new();
        FIRST.get_or_init(Self::current).is_elsewhere()
    }

    /// Whether the calling process was forked from this one.
    pub(crate) fn is_elsewhere(&self) -> bool {
        // The guard notes what it has seen, and each handle must see it.
        self.0.clone().detected_fork()
    }
}
