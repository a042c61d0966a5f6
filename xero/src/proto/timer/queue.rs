//! Timers that are armed mostly in the order of their instants, such as the deadlines of calls with one timeout.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Instant,
};

use super::Timer;

/// When a timer fires; timers of one instant have an order, so that a seed plays the same everywhere.
type Key = (Instant, Timer);

/// See the module. Arming and stopping such a timer costs the same however many there are; others cost a search tree.
#[derive(Debug, Default)]
pub(super) struct TimerQueue {
    /// A line for each of a few timeouts. Each is in order.
    lines: [Line; LINES],
    /// Those that fit behind no line.
    others: BTreeSet<Key>,
    /// When the earliest fires: machines are asked for it several times a turn.
    next: Option<Instant>,
}

/// The timeouts whose calls may alternate without a search tree: the methods of a program have a few different ones.
const LINES: usize = 4;

/// Timers in order. Stopped ones keep their place until those before them have gone, or until they are half of all.
#[derive(Debug, Default)]
struct Line {
    places: VecDeque<(Key, bool)>,
    stopped: usize,
}

impl TimerQueue {
    /// Arms a timer that is not armed.
    pub(super) fn arm(&mut self, timer: Timer, at: Instant) {
        let key = (at, timer);
        self.next = self.next.filter(|next| *next < at).or(Some(at));
        // The best fit: lines of later timers stay free for such.
        let fits = self.lines.iter_mut().filter(|line| line.last().is_none_or(|last| *last < key));
        match fits.max_by_key(|line| line.last().map(|(at, _)| *at)) {
            Some(line) => line.places.push_back((key, true)),
            None => _ = self.others.insert(key),
        }
    }

    /// Stops a timer that was armed for this instant, unless it has fired.
    pub(super) fn disarm(&mut self, timer: Timer, at: Instant) {
        let key = (at, timer);
        if !self.lines.iter_mut().any(|line| line.stop(key)) {
            self.others.remove(&key);
        }
        if self.next == Some(at) {
            self.next = self.firsts().map(|(at, _)| at).min();
        }
    }

    /// Takes the earliest timer, if it is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        self.next.filter(|at| *at <= now)?;
        let (at, timer) = self.firsts().min()?;
        self.disarm(timer, at);
        Some(timer)
    }

    /// When the earliest timer fires.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next.is_none()
    }

    /// The earliest of each line, and of the others.
    fn firsts(&self) -> impl Iterator<Item = Key> {
        self.lines.iter().filter_map(Line::first).chain(self.others.first().copied())
    }
}

impl Line {
    /// The first place is never of a stopped timer.
    fn first(&self) -> Option<Key> {
        self.places.front().map(|(key, _)| *key)
    }

    fn last(&self) -> Option<&Key> {
        self.places.back().map(|(key, _)| key)
    }

    /// Stops a timer; `false` if it is not in this line.
    fn stop(&mut self, key: Key) -> bool {
        let place = match self.first() {
            // Calls end about in the order of their starts.
            Some(first) if first == key => 0,
            Some(first) if first < key => match self.places.binary_search_by_key(&key, |(key, _)| *key) {
                Ok(place) => place,
                Err(_) => return false,
            },
            _ => return false,
        };
        let is_armed = &mut self.places[place].1;
        if !std::mem::take(is_armed) {
            return false;
        }
        self.stopped += 1;
        while let Some((_, false)) = self.places.front() {
            self.places.pop_front();
            self.stopped -= 1;
        }
        if self.stopped > STOPPED_MIN && self.stopped > self.places.len() / 2 {
            self.places.retain(|(_, is_armed)| *is_armed);
            self.stopped = 0;
        }
        // What a burst has taken is given back.
        if self.places.capacity() > ROOM_MIN && self.places.len() < self.places.capacity() / 8 {
            self.places.shrink_to(2 * self.places.len());
        }
        true
    }
}

/// Up to this number of stopped timers keep their places.
const STOPPED_MIN: usize = 64;

/// Room for this number of timers is never given back: 48 KiB.
const ROOM_MIN: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fastrand::Rng;

    use super::*;
    use crate::proto::message::CallId;

    #[test]
    fn queue_fires_the_same_timers_in_the_same_order_as_a_search_tree() {
        let start = Instant::now();
        for seed in 0..200 {
            let mut random = Rng::with_seed(seed);
            let (mut queue, mut tree, mut now) = (TimerQueue::default(), BTreeSet::new(), start);
            for number in 0..1_000 {
                now += Duration::from_millis(random.u64(0..3));
                if random.u8(0..3) > 0 {
                    let timeouts = [5, 5, 5, 200, 7, 1_000, random.u64(0..2_000)];
                    let at = now + Duration::from_millis(timeouts[random.usize(0..timeouts.len())]);
                    let timer = Timer::Deadline(CallId(number));
                    queue.arm(timer, at);
                    tree.insert((at, timer));
                } else if let Some(&(at, timer)) = tree.iter().nth(random.usize(0..tree.len().max(1))) {
                    queue.disarm(timer, at);
                    tree.remove(&(at, timer));
                }
                assert_eq!((queue.next(), queue.is_empty()), (tree.first().map(|(at, _)| *at), tree.is_empty()));
                if random.u8(0..5) == 0 {
                    let due = tree.first().filter(|(at, _)| *at <= now).copied();
                    assert_eq!(queue.take_due(now), due.map(|(_, timer)| timer), "seed {seed}");
                    due.map(|key| tree.remove(&key));
                }
            }
            while let Some((at, timer)) = tree.pop_first() {
                assert_eq!(queue.take_due(at), Some(timer), "seed {seed}");
            }
            assert!(queue.is_empty(), "seed {seed}");
        }
    }

    #[test]
    fn timer_that_was_stopped_or_has_fired_is_stopped_once_more_without_effect() {
        let (start, mut queue) = (Instant::now(), TimerQueue::default());
        let timers = [1, 2, 3].map(|number| Timer::Deadline(CallId(number)));
        timers.into_iter().for_each(|timer| queue.arm(timer, start));
        queue.disarm(timers[1], start);
        queue.disarm(timers[1], start);
        // Counted twice, it would have the others moved too early.
        assert_eq!(queue.lines.iter().map(|line| line.stopped).sum::<usize>(), 1);
        assert_eq!(queue.take_due(start), Some(timers[0]));
        queue.disarm(timers[0], start);
        assert_eq!((queue.take_due(start), queue.take_due(start)), (Some(timers[2]), None));
        assert!(queue.is_empty());
    }

    #[test]
    fn stopped_timers_behind_one_that_stays_are_forgotten() {
        let (start, mut queue) = (Instant::now(), TimerQueue::default());
        queue.arm(Timer::Deadline(CallId(0)), start);
        for number in 1..100_000 {
            let at = start + Duration::from_millis(number);
            queue.arm(Timer::Deadline(CallId(number)), at);
            queue.disarm(Timer::Deadline(CallId(number)), at);
        }
        let places: usize = queue.lines.iter().map(|line| line.places.len()).sum();
        assert!(places <= 2 * STOPPED_MIN, "{places}");
        assert_eq!(queue.next(), Some(start));
    }

    #[test]
    fn room_of_a_burst_is_given_back() {
        let (start, mut queue) = (Instant::now(), TimerQueue::default());
        let timers = (0..100_000).map(|number| (Timer::Deadline(CallId(number)), start));
        timers.clone().for_each(|(timer, at)| queue.arm(timer, at));
        timers.for_each(|(timer, at)| queue.disarm(timer, at));
        let room: usize = queue.lines.iter().map(|line| line.places.capacity()).sum();
        assert!(room <= 2 * ROOM_MIN, "{room}");
    }

    #[test]
    fn few_timeouts_need_no_search_tree() {
        let (start, mut queue) = (Instant::now(), TimerQueue::default());
        for number in 0..1_000 {
            let now = start + Duration::from_millis(number);
            let timeout = Duration::from_secs([5, 30, 3_600, 1][number as usize % LINES]);
            queue.arm(Timer::Deadline(CallId(number)), now + timeout);
        }
        assert_eq!(queue.others.len(), 0);
    }
}
