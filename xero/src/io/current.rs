//! Which procedure of a worker, or which user `Drop`, runs on this thread.

use tokio::task;
use uuid::Uuid;

use crate::proto::timer::Execution;

tokio::task_local! {
    /// The procedure that is being polled, or the running drop.
    pub(crate) static CURRENT: Current;
}

/// A procedure, or a drop, that runs in a task.
#[derive(Clone, Copy)]
pub(crate) struct Current {
    owner: Uuid,
    execution: Execution,
    /// Distinguishes the procedure from tasks of a runtime that it blocks on, which run on its thread too.
    task: Option<task::Id>,
}

impl Current {
    /// The execution, in the task that calls this.
    pub(crate) fn new(owner: Uuid, execution: Execution) -> Self {
        Self { owner, execution, task: task::try_id() }
    }
}

/// The calling execution of that worker, from its future or from code that blocks in it; `None` outside.
///
/// The `Drop` of a service has a number that no procedure has. A task that is polled while a procedure blocks is
/// outside of it.
pub(crate) fn execution(owner: Uuid) -> Option<Execution> {
    let current = CURRENT.try_with(|current| *current).ok()?;
    (current.owner == owner && current.task == task::try_id()).then_some(current.execution)
}

/// Drops a user's value that the worker's or the broker's end waits for.
///
/// If the `Drop` waits for that end, it returns at once.
pub(crate) fn within_drop(owner: Uuid, drop: impl FnOnce()) {
    CURRENT.sync_scope(Current::new(owner, Execution(0)), drop);
}
