//! The way of commands from handles, calls and procedures to a driver.

use std::{
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{Ordering, fence},
    },
};

use tokio::sync::mpsc;

/// Something that has a driver take turns.
pub(crate) trait Turns: Send + Sync {
    /// A command has been put into the mailbox: it is handled here and now, unless others are at work.
    fn ring(&self);

    /// A command has been put into the mailbox that others may follow, or none will follow any more: the I/O thread
    /// handles that.
    fn wake(&self);
}

/// The handles' end of a mailbox. Clones are cheap.
pub(crate) struct Commands<C>(Arc<Post<C>>);

/// The end of a mailbox that does not keep it open.
pub(crate) struct WeakCommands<C>(Weak<Post<C>>);

/// The driver's end of a mailbox.
#[derive(Debug)]
pub(crate) struct Mailbox<C> {
    commands: mpsc::UnboundedReceiver<C>,
    turns: Arc<OnceLock<Weak<dyn Turns>>>,
}

struct Post<C> {
    /// Taken by the drop.
    sender: Option<mpsc::UnboundedSender<C>>,
    /// Set once there is a driver; commands before that wait for its first turn.
    turns: Arc<OnceLock<Weak<dyn Turns>>>,
}

/// Both ends of a mailbox.
pub(crate) fn mailbox<C>() -> (Commands<C>, Mailbox<C>) {
    let (sender, commands) = mpsc::unbounded_channel();
    let turns = Arc::new(OnceLock::new());
    (Commands(Arc::new(Post { sender: Some(sender), turns: Arc::clone(&turns) })), Mailbox { commands, turns })
}

impl<C> Commands<C> {
    /// Puts a command into the mailbox, and has it handled.
    ///
    /// # Errors
    /// The mailbox is closed: the command comes back.
    pub(crate) fn send(&self, command: C) -> Result<(), C> {
        self.put(command)?;
        if let Some(turns) = self.0.turns() {
            turns.ring();
        }
        Ok(())
    }

    /// Puts a command into the mailbox that others may soon follow: the I/O thread handles them together.
    ///
    /// # Errors
    /// The mailbox is closed: the command comes back.
    pub(crate) fn send_one_of_many(&self, command: C) -> Result<(), C> {
        self.put(command)?;
        if let Some(turns) = self.0.turns() {
            turns.wake();
        }
        Ok(())
    }

    fn put(&self, command: C) -> Result<(), C> {
        let Some(sender) = &self.0.sender else { return Err(command) };
        sender.send(command).map_err(|mpsc::error::SendError(command)| command)
    }

    /// Whether nobody handles commands any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.sender.as_ref().is_none_or(mpsc::UnboundedSender::is_closed)
    }

    /// An end that does not keep the mailbox open.
    pub(crate) fn downgrade(&self) -> WeakCommands<C> {
        WeakCommands(Arc::downgrade(&self.0))
    }
}

impl<C> WeakCommands<C> {
    /// The end itself, unless the last one is gone.
    pub(crate) fn upgrade(&self) -> Option<Commands<C>> {
        self.0.upgrade().map(Commands)
    }
}

impl<C> Mailbox<C> {
    /// Has commands handled by these turns from now on. Those before wait for the next turn.
    pub(crate) fn attend(&self, turns: Weak<dyn Turns>) {
        // A mailbox has one driver in its life.
        let _ = self.turns.set(turns);
        fence(Ordering::SeqCst);
    }

    /// The next command.
    ///
    /// # Errors
    /// There is none now, or never again.
    pub(crate) fn take(&mut self) -> Result<C, mpsc::error::TryRecvError> {
        self.commands.try_recv()
    }

    /// Closes the mailbox: later commands come back to their senders. Those in it can still be taken.
    pub(crate) fn close(&mut self) {
        self.commands.close();
    }
}

impl<C> Post<C> {
    fn turns(&self) -> Option<Arc<dyn Turns>> {
        let turns = self.turns.get().or_else(|| {
            // Either this finds the driver, or the driver's first turn finds the command.
            fence(Ordering::SeqCst);
            self.turns.get()
        });
        turns.and_then(Weak::upgrade)
    }
}

impl<C> Drop for Post<C> {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(turns) = self.turns() {
            turns.wake();
        }
    }
}

impl<C> Clone for Commands<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C> fmt::Debug for Commands<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commands").field("is_closed", &self.is_closed()).finish()
    }
}

impl<C> fmt::Debug for WeakCommands<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakCommands").finish_non_exhaustive()
    }
}

impl<C> fmt::Debug for Post<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts how often it is asked for turns.
    #[derive(Default)]
    struct Counting {
        rings: AtomicUsize,
        wakes: AtomicUsize,
    }

    impl Turns for Counting {
        fn ring(&self) {
            self.rings.fetch_add(1, Ordering::Relaxed);
        }

        fn wake(&self) {
            self.wakes.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn commands_before_the_driver_wait_and_later_ones_are_handled_at_once() {
        let (commands, mut mailbox) = mailbox();
        assert_eq!(commands.send(1), Ok(()));
        let turns = Arc::new(Counting::default());
        mailbox.attend(Arc::downgrade(&turns) as Weak<dyn Turns>);
        assert_eq!(turns.rings.load(Ordering::Relaxed), 0);
        assert_eq!(commands.send(2), Ok(()));
        assert_eq!(turns.rings.load(Ordering::Relaxed), 1);
        assert_eq!((commands.send_one_of_many(3), turns.wakes.load(Ordering::Relaxed)), (Ok(()), 1));
        assert_eq!((mailbox.take(), mailbox.take(), mailbox.take()), (Ok(1), Ok(2), Ok(3)));
        assert_eq!(mailbox.take(), Err(mpsc::error::TryRecvError::Empty));
    }

    #[test]
    fn end_of_the_last_clone_is_noticed_and_weak_ones_keep_nothing_open() {
        let (commands, mut mailbox) = mailbox::<u8>();
        let turns = Arc::new(Counting::default());
        mailbox.attend(Arc::downgrade(&turns) as Weak<dyn Turns>);
        let (clone, weak) = (commands.clone(), commands.downgrade());
        drop(commands);
        assert_eq!(turns.wakes.load(Ordering::Relaxed), 0);
        assert!(weak.upgrade().is_some());
        drop(clone);
        assert_eq!(turns.wakes.load(Ordering::Relaxed), 1);
        assert!(weak.upgrade().is_none());
        assert_eq!(mailbox.take(), Err(mpsc::error::TryRecvError::Disconnected));
    }

    #[test]
    fn closed_mailbox_returns_commands_and_keeps_earlier_ones() {
        let (commands, mut mailbox) = mailbox();
        assert_eq!(commands.send(1), Ok(()));
        mailbox.close();
        assert!(commands.is_closed());
        assert_eq!((commands.send(2), mailbox.take()), (Err(2), Ok(1)));
    }
}
