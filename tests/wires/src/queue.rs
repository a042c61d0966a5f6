//! What will happen, in order.

use std::collections::BTreeMap;

use super::at::At;

/// Events by their instants; those of one instant happen in the order in which they were posted.
#[derive(Debug)]
pub struct Queue<E> {
    events: BTreeMap<(At, u64), E>,
    posted: u64,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        Self { events: BTreeMap::new(), posted: 0 }
    }

    /// Lets an event happen at this instant, after those posted for it before.
    pub fn post(&mut self, at: At, event: E) {
        self.posted += 1;
        self.events.insert((at, self.posted), event);
    }

    /// Takes the next event that is due.
    pub fn pop_due(&mut self, now: At) -> Option<E> {
        let next = self.events.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(next.remove())
    }

    /// Removes the events that are not to be kept.
    pub fn retain(&mut self, is_kept: impl Fn(&E) -> bool) {
        self.events.retain(|_, event| is_kept(event));
    }

    /// The instant of the next event.
    pub fn next_at(&self) -> Option<At> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// The events, in order.
    pub fn iter(&self) -> impl Iterator<Item = &E> {
        self.events.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_happen_at_their_instants_in_the_order_of_posting() {
        let mut queue = Queue::new();
        for (nanos, event) in [(2, "late"), (1, "first"), (1, "second")] {
            queue.post(At::from_nanos(nanos), event);
        }
        assert_eq!(queue.iter().copied().collect::<Vec<_>>(), ["first", "second", "late"]);
        assert_eq!((queue.pop_due(At::ZERO), queue.next_at()), (None, Some(At::from_nanos(1))));
        let due = [1, 1, 1, 2].map(|nanos| queue.pop_due(At::from_nanos(nanos)));
        assert_eq!(due, [Some("first"), Some("second"), None, Some("late")]);
        assert_eq!(queue.next_at(), None);
    }
}
