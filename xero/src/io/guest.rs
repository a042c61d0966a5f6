//! User values that pass through the I/O thread, and a place to drop them where their `Drop` may block.

use std::{
    any::Any,
    fmt, io, mem,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{sleep, timeout},
};
use tracing::Span;

use super::panics::{self, NO_TEXT, drop_quietly};

/// A value whose `Drop` is user code.
///
/// Dropping the guest, on an I/O thread or in a task, hands the value to the blocking pool of the user's runtime, or to
/// a new thread if there is no such pool.
pub(crate) struct Guest<T: Send + 'static> {
    /// Taken when the value leaves.
    value: Option<T>,
    /// The user's runtime, which `Drop` finds as the current one.
    user: Option<Handle>,
    /// Whether the value holds no user value, so that it can be dropped anywhere.
    is_ours: bool,
}

impl<T: Send + 'static> Guest<T> {
    /// A value whose `Drop` runs within the current runtime, if there is one.
    pub(crate) fn new(value: T) -> Self {
        Self { value: Some(value), user: Handle::try_current().ok(), is_ours: false }
    }

    /// The same, unless the value holds no user value: then it is dropped in place.
    pub(crate) fn only_if(is_foreign: bool, value: T) -> Self {
        let mut guest = Self::new(value);
        guest.is_ours = !is_foreign;
        guest
    }

    /// A value whose `Drop` runs within that runtime.
    pub(crate) fn of(user: &Handle, value: T) -> Self {
        Self { value: Some(value), user: Some(user.clone()), is_ours: false }
    }

    /// Takes the value out; it is dropped wherever it goes.
    pub(crate) fn leave(&mut self) -> Option<T> {
        self.value.take()
    }

    /// Maps the value; the result belongs to the same user.
    pub(crate) fn map<U: Send + 'static>(mut self, make: impl FnOnce(T) -> U) -> Guest<U> {
        Guest { value: self.value.take().map(make), user: self.user.take(), is_ours: self.is_ours }
    }

    /// Another value of the same user.
    pub(crate) fn beside<U: Send + 'static>(&self, value: U) -> Guest<U> {
        Guest { value: Some(value), user: self.user.clone(), is_ours: false }
    }

    /// Drops the value on the blocking pool of the user's runtime, then runs `rest`; returns when both are done.
    ///
    /// If the pool is full or shut down, a new thread drops the value.
    ///
    /// If no thread is free either, it returns the remaining work. The caller does that work on its own thread, outside
    /// of any runtime.
    pub(crate) async fn dispose(mut self, rest: impl FnOnce() + Send + 'static) -> Rest {
        match self.value.take() {
            Some(value) if !self.is_ours => {
                let (sender, mut gone) = oneshot::channel::<()>();
                let cargo = Cargo::new(value, self.user.take(), move || drop(sender));
                if !cargo.unload_elsewhere().await {
                    return Some(Box::new(move || {
                        cargo.unload_here();
                        // Another thread may have taken the value, and not be done yet.
                        let _ = gone.blocking_recv();
                        rest();
                    }));
                }
                let _ = (&mut gone).await;
            }
            value => drop(value),
        }
        rest();
        None
    }

    /// Drops the value as [`Self::dispose`] does, then runs `rest`, without waiting.
    ///
    /// A task of the I/O thread's runtime retries until a thread is free. Other runtimes may have no timers.
    pub(crate) fn dispose_meanwhile(mut self, io: &Handle, rest: impl FnOnce() + Send + 'static) {
        let Some(value) = self.value.take() else { return rest() };
        let cargo = Cargo::new(value, self.user.take(), rest);
        drop(io.spawn(async move {
            let mut is_taken = cargo.unload_elsewhere().await;
            while !is_taken {
                sleep(SHORTAGE_PAUSE).await;
                is_taken = cargo.is_unloaded() || cargo.unload_on_a_thread().is_ok();
            }
        }));
    }
}

/// The work that remains for a thread once its runtime has ended.
pub(crate) type Rest = Option<Box<dyn FnOnce() + Send>>;

impl<T: Send + 'static> Drop for Guest<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take_if(|_| !self.is_ours) {
            Cargo::new(value, self.user.take(), || ()).unload_on_the_pool();
        }
    }
}

impl<T: Send + 'static> Deref for Guest<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("only what consumes a guest takes its value")
    }
}

impl<T: Send + 'static> DerefMut for Guest<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("only what consumes a guest takes its value")
    }
}

impl<T: Send + fmt::Debug + 'static> fmt::Debug for Guest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// The panic's text. A payload without text becomes a [`Guest`]: its `Drop` may block, or panic again.
pub(crate) fn describe_panic(panic: Box<dyn Any + Send>) -> String {
    describe_guest(Guest::new(panic))
}

/// The same for a payload whose user is known.
pub(super) fn describe_guest(mut panic: Guest<Box<dyn Any + Send>>) -> String {
    match panics::text(&**panic) {
        Some(text) => {
            let text = text.to_owned();
            panic.leave();
            text
        }
        None => NO_TEXT.to_owned(),
    }
}

/// A value that its first taker drops.
struct Cargo<T: Send + 'static> {
    load: Mutex<Option<Load<T>>>,
    user: Option<Handle>,
}

/// The value, and the work that follows its drop.
struct Load<T> {
    value: T,
    rest: Box<dyn FnOnce() + Send>,
    /// Where it was given away: what its `Drop` logs belongs to this call.
    span: Span,
}

impl<T: Send + 'static> Cargo<T> {
    fn new(value: T, user: Option<Handle>, rest: impl FnOnce() + Send + 'static) -> Arc<Self> {
        let load = Load { value, rest: Box::new(rest), span: Span::current() };
        Arc::new(Self { load: Mutex::new(Some(load)), user })
    }

    fn take(&self) -> Option<Load<T>> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn is_unloaded(&self) -> bool {
        self.load.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn unload(&self) {
        if let Some(Load { value, rest, span }) = self.take() {
            span.in_scope(|| drop_quietly(value));
            rest();
        }
    }

    /// Drops the value within the user's runtime, on this thread, which is outside of any.
    fn unload_here(&self) {
        let _inside = self.user.as_ref().map(Handle::enter);
        self.unload();
    }

    /// Returns when the value is dropped, or on its way on a thread; `false` if no thread is free.
    async fn unload_elsewhere(self: &Arc<Self>) -> bool {
        if let Some(user) = &self.user {
            let cargo = Arc::clone(self);
            // It panics if the pool has no thread and gets none. A pool that has shut down cancels the task, and leaves
            // the value in the cargo.
            if let Ok(task) = panics::catch(|| user.spawn_blocking(move || cargo.unload())) {
                let _ = timeout(POOL_PATIENCE, task).await;
            }
        }
        self.is_unloaded() || self.unload_on_a_thread().is_ok()
    }

    /// Returns at once. If the pool is full, the value waits for its turn.
    fn unload_on_the_pool(self: Arc<Self>) {
        // A cargo that is dropped still loaded gets a thread.
        let Some(user) = self.user.clone() else { return };
        // If it panics because the pool has no thread and gets none, the value waits for the pool's next thread.
        let _ = panics::catch(|| drop(user.spawn_blocking(move || self.unload())));
    }

    fn unload_on_a_thread(self: &Arc<Self>) -> io::Result<()> {
        let cargo = Arc::clone(self);
        thread::Builder::new().name("xero-drop".to_owned()).spawn(move || cargo.unload_here()).map(drop)
    }
}

impl<T: Send + 'static> Drop for Cargo<T> {
    /// Covers a value that no thread took, such as those of a pool that was shut down.
    fn drop(&mut self) {
        let Some(load) = self.take() else { return };
        let cargo = Arc::new(Self { load: Mutex::new(Some(load)), user: self.user.take() });
        if cargo.unload_on_a_thread().is_ok() {
            return;
        }
        // If no thread is free, leaking the value does the least harm.
        if let Some(Load { value, rest, .. }) = cargo.take() {
            mem::forget(value);
            rest();
        }
    }
}

/// How long the blocking pool may take to begin: far longer than an idle one does.
///
/// A pool full of endless procedures must not keep a worker from leaving.
const POOL_PATIENCE: Duration = Duration::from_millis(100);

/// The pause before asking for a thread again: short beside a drain, and no busy wait.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime;

    use super::*;

    /// Reports on which thread it is dropped, and whether a runtime could be dropped there.
    struct Witness(mpsc::Sender<Option<String>>, Option<runtime::Runtime>);

    impl Witness {
        fn new() -> (Self, mpsc::Receiver<Option<String>>) {
            let (sender, receiver) = mpsc::channel();
            (Self(sender, Some(runtime(1))), receiver)
        }
    }

    impl Drop for Witness {
        fn drop(&mut self) {
            // Panics where blocking is forbidden.
            drop(self.1.take());
            Handle::current();
            let _ = self.0.send(thread::current().name().map(str::to_owned));
        }
    }

    #[test]
    fn texts_are_repeated_and_other_payloads_are_named() {
        assert_eq!(describe_panic(Box::new("a text")), "a text");
        assert_eq!(describe_panic(Box::new("a text".to_owned())), "a text");
        assert_eq!(describe_panic(Box::new(7)), "a panic whose payload is not text");
    }

    #[test]
    fn payload_whose_drop_panics_repeatedly_does_no_harm() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                std::panic::panic_any(Self);
            }
        }
        assert_eq!(describe_panic(Box::new(Bomb)), "a panic whose payload is not text");
        drop_quietly(Bomb);
    }

    #[test]
    fn guest_is_dropped_on_the_pool_of_its_runtime() {
        let (user, io) = (runtime(1), runtime(1));
        let (witness, dropped) = Witness::new();
        assert!(io.block_on(Guest::of(user.handle(), witness).dispose(|| ())).is_none());
        assert_eq!(dropped.try_recv().expect("dropped by then").as_deref(), Some("user"));
    }

    #[test]
    fn full_or_closed_pool_does_not_delay_a_guest() {
        let io = runtime(1);
        let full = runtime(1);
        let (release, blocked) = mpsc::channel::<()>();
        full.spawn_blocking(move || blocked.recv());
        let ended = runtime(1);
        let of_ended = ended.handle().clone();
        ended.shutdown_background();
        for user in [full.handle(), &of_ended] {
            let (witness, dropped) = Witness::new();
            assert!(io.block_on(Guest::of(user, witness).dispose(|| ())).is_none());
            assert_eq!(dropped.try_recv().expect("dropped by then").as_deref(), Some("xero-drop"));
        }
        drop(release);
    }

    #[test]
    fn guest_of_a_runtime_without_timers_is_disposed_of_meanwhile() {
        let bare = runtime::Builder::new_multi_thread().worker_threads(1).max_blocking_threads(1).build();
        let (user, io) = (bare.expect("a runtime"), runtime(1));
        let (release, blocked) = mpsc::channel::<()>();
        user.spawn_blocking(move || blocked.recv());
        let (witness, dropped) = Witness::new();
        let (sender, rest) = mpsc::channel();
        user.block_on(async {
            Guest::of(user.handle(), witness).dispose_meanwhile(io.handle(), move || _ = sender.send(()));
        });
        // The pool is full, which only a timer notices.
        let thread = dropped.recv_timeout(Duration::from_secs(10)).expect("dropped");
        assert_eq!(thread.as_deref(), Some("xero-drop"));
        drop(release);
        rest.recv().expect("the rest follows");
    }

    #[test]
    fn abandoned_guest_is_dropped_on_the_pool_of_its_runtime() {
        let user = runtime(1);
        let (witness, dropped) = Witness::new();
        user.block_on(async { drop(Guest::new(witness)) });
        assert_eq!(dropped.recv().expect("dropped").as_deref(), Some("user"));
    }

    #[test]
    fn abandoned_guest_gets_a_thread_if_the_pool_is_gone() {
        let (ended, full) = (runtime(1), runtime(1));
        let of_ended = ended.handle().clone();
        ended.shutdown_background();
        let (witness, dropped) = Witness::new();
        drop(Guest::of(&of_ended, witness));
        assert_eq!(dropped.recv().expect("dropped").as_deref(), Some("xero-drop"));

        let (release, blocked) = mpsc::channel::<()>();
        full.spawn_blocking(move || blocked.recv());
        let (witness, dropped) = Witness::new();
        drop(Guest::of(full.handle(), witness));
        assert!(dropped.recv_timeout(Duration::from_millis(50)).is_err(), "it waits for its turn");
        full.shutdown_background();
        drop(release);
        dropped.recv().expect("dropped, here or there");
    }

    #[test]
    fn guest_whose_drop_panics_is_still_disposed_of() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("a drop that panics");
            }
        }
        let (user, io) = (runtime(1), runtime(1));
        assert!(io.block_on(Guest::of(user.handle(), Bomb).dispose(|| ())).is_none());
    }

    fn runtime(blocking: usize) -> runtime::Runtime {
        let builder = &mut runtime::Builder::new_multi_thread();
        let builder = builder.worker_threads(1).max_blocking_threads(blocking).thread_name("user");
        builder.enable_all().build().expect("a runtime")
    }
}
