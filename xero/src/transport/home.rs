//! Which runtime the connections of a side belong to.

use tokio::runtime::{Handle, Id};

/// The runtime to which connections are moved, and what is known of it.
#[derive(Debug, Default)]
pub(super) struct Home {
    /// `None` while connections stay where they were made.
    runtime: Option<Handle>,
    /// A runtime that has turned out to have no reactor.
    barren: Option<Id>,
}

impl Home {
    /// Moves all connections to this runtime, and later ones too; `false` if it has no reactor.
    ///
    /// Tokio panics then. So it is asked once.
    pub(super) fn move_all<C>(
        &mut self,
        runtime: &Handle,
        mut connections: impl Iterator<Item = C>,
        rehome: impl Fn(C, &Handle) -> bool,
    ) -> bool {
        let has_reactor =
            self.barren != Some(runtime.id()) && connections.all(|connection| rehome(connection, runtime));
        self.note(runtime, has_reactor)
    }

    /// Moves a new connection to where the others are.
    pub(super) fn welcome<C>(&mut self, connection: C, rehome: impl Fn(C, &Handle) -> bool) {
        if let Some(runtime) = self.runtime.clone() {
            let has_reactor = rehome(connection, &runtime);
            self.note(&runtime, has_reactor);
        }
    }

    fn note(&mut self, runtime: &Handle, has_reactor: bool) -> bool {
        self.runtime = has_reactor.then(|| runtime.clone());
        if !has_reactor {
            self.barren = Some(runtime.id());
        }
        has_reactor
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn connections_move_together_and_later_ones_follow() {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let (moved, mut home) = (Cell::new(0), Home::default());
        let rehome = |count, _: &Handle| {
            moved.set(moved.get() + count);
            true
        };
        home.welcome(1, rehome);
        assert_eq!(moved.get(), 0);
        assert!(home.move_all(runtime.handle(), [10, 20].into_iter(), rehome));
        home.welcome(100, rehome);
        assert_eq!(moved.get(), 130);
    }

    #[test]
    fn runtime_without_a_reactor_is_asked_once_whenever_it_is_found_out() {
        let [bare, good] = [(); 2].map(|()| Builder::new_current_thread().build().expect("a runtime"));
        let asked = Cell::new(0);
        let rehome = |(), runtime: &Handle| {
            asked.set(asked.get() + 1);
            runtime.id() != bare.handle().id()
        };
        let mut home = Home::default();
        // There is none yet, so nothing is known.
        assert!(home.move_all(bare.handle(), [].into_iter(), rehome));
        (0..3).for_each(|_| home.welcome((), rehome));
        assert_eq!(asked.get(), 1);
        assert!(home.move_all(good.handle(), [(), ()].into_iter(), rehome));
        assert!(!home.move_all(bare.handle(), [(), ()].into_iter(), rehome));
        assert_eq!(asked.get(), 3);
    }
}
