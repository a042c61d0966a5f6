//! Which runtime the sockets belong to: the program's while it is at work, else the I/O thread's.

use std::time::{Duration, Instant};

/// Watches a reader. Time and what was seen come in, decisions go out.
#[derive(Debug)]
pub(super) struct Watch {
    place: Place,
    /// The answers at the last look.
    answers: u64,
    /// Since when the reader owes an answer.
    asked: Option<Instant>,
    /// When the last answers were seen.
    answered: Instant,
    /// How long the sockets stay with the I/O thread after the next failure.
    stay: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The I/O thread's runtime, at least until this instant.
    Here(Instant),
    /// The program's runtime, since this instant.
    There(Instant),
}

/// What there is for the reader to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Requests may come, and connections may end.
    News,
    /// Calls are in flight, or commands wait.
    Replies,
    /// Timeouts are due, which it handles once it has read what answers them.
    Timeouts,
}

/// What the I/O thread must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing before this instant.
    Wait(Instant),
    /// Nothing before the reader answers.
    Rest,
    /// Call the reader, and look again at this instant.
    Ask(Instant),
    /// Take the sockets to the I/O thread.
    Take,
    /// Give the sockets to the reader.
    Give,
}

impl Watch {
    /// A watch over a reader that has no sockets yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { place: Place::Here(now), answers: 0, asked: None, answered: now, stay: STAY_MIN }
    }

    /// Decides, given how often the reader has answered, and what there is for it to do.
    pub(super) fn look(&mut self, now: Instant, answers: u64, need: Need) -> Decision {
        match self.place {
            Place::Here(until) => self.look_here(now, answers, until),
            Place::There(_) => self.look_there(now, answers, need),
        }
    }

    fn look_here(&mut self, now: Instant, answers: u64, until: Instant) -> Decision {
        match self.asked {
            None if now < until => Decision::Wait(until),
            None => {
                self.answers = answers;
                self.ask(now)
            }
            Some(_) if answers == self.answers => Decision::Rest,
            Some(asked) if now < asked + PATIENCE => {
                self.place = Place::There(now);
                self.note_answers(now, answers);
                Decision::Give
            }
            // The runtime was stuck, or nobody has driven it.
            Some(_) => {
                self.place = Place::Here(now + self.stay);
                self.asked = None;
                Decision::Wait(now + self.stay)
            }
        }
    }

    fn look_there(&mut self, now: Instant, answers: u64, need: Need) -> Decision {
        if answers != self.answers {
            self.note_answers(now, answers);
        }
        let interval = match need {
            Need::News => INTERVAL_IDLE,
            Need::Replies => PATIENCE,
            Need::Timeouts => Duration::ZERO,
        };
        match self.asked {
            Some(asked) if now >= asked + PATIENCE => self.take(now),
            Some(asked) => Decision::Wait(asked + PATIENCE),
            None if now < self.answered + interval => Decision::Wait(self.answered + interval),
            None => self.ask(now),
        }
    }

    /// Decides that the sockets go to the I/O thread.
    pub(super) fn take(&mut self, now: Instant) -> Decision {
        if let Place::There(since) = self.place {
            if now >= since + STAY_MAX {
                self.stay = STAY_MIN;
            }
            self.place = Place::Here(now + self.stay);
            self.stay = (self.stay * 2).min(STAY_MAX);
            self.asked = None;
        }
        Decision::Take
    }

    fn ask(&mut self, now: Instant) -> Decision {
        self.asked = Some(now);
        Decision::Ask(now + PATIENCE)
    }

    fn note_answers(&mut self, now: Instant, answers: u64) {
        self.answers = answers;
        self.asked = None;
        self.answered = now;
    }
}

/// How long a runtime may take to answer, and the time between two looks at a busy one.
const PATIENCE: Duration = Duration::from_millis(20);

/// The time between two looks at an idle runtime, whose reactor alone knows of a first request, or that a peer has gone.
const INTERVAL_IDLE: Duration = Duration::from_millis(320);

/// How long the sockets stay with the I/O thread after a runtime was stuck once, and after it was stuck often.
const STAY_MIN: Duration = Duration::from_millis(100);
const STAY_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// A watch, its clock, and a reader that may answer.
    struct Play {
        watch: Watch,
        now: Instant,
        answers: u64,
    }

    impl Play {
        fn new() -> Self {
            let now = Instant::now();
            Self { watch: Watch::new(now), now, answers: 0 }
        }

        fn look(&mut self, need: Need) -> Decision {
            self.watch.look(self.now, self.answers, need)
        }

        /// Waits as decided, then looks again.
        fn follow(&mut self, decision: Decision, need: Need) -> Decision {
            let (Decision::Wait(at) | Decision::Ask(at)) = decision else { panic!("{decision:?}") };
            self.now = at;
            self.look(need)
        }

        fn gives(&mut self) {
            loop {
                match self.look(Need::News) {
                    Decision::Wait(at) => self.now = at,
                    Decision::Ask(_) => self.answers += 1,
                    decision => return assert_eq!(decision, Decision::Give),
                }
            }
        }
    }

    #[test]
    fn runtime_gets_the_sockets_once_it_answers_in_time() {
        let mut play = Play::new();
        assert!(matches!(play.look(Need::News), Decision::Ask(_)));
        assert_eq!(play.look(Need::News), Decision::Rest);
        play.answers += 1;
        assert_eq!(play.look(Need::News), Decision::Give);
        assert_eq!(play.look(Need::News), Decision::Wait(play.now + INTERVAL_IDLE));
    }

    #[test]
    fn runtime_that_answers_late_waits_for_another_chance() {
        let mut play = Play::new();
        assert!(matches!(play.look(Need::News), Decision::Ask(_)));
        play.now += PATIENCE;
        play.answers += 1;
        let decision = play.look(Need::News);
        assert_eq!(decision, Decision::Wait(play.now + STAY_MIN));
        assert!(matches!(play.follow(decision, Need::News), Decision::Ask(_)));
    }

    #[test]
    fn sockets_are_taken_two_looks_after_the_last_answer() {
        let mut play = Play::new();
        play.gives();
        let begun = play.now;
        let decision = play.look(Need::Replies);
        assert_eq!(decision, Decision::Wait(begun + PATIENCE));
        let decision = play.follow(decision, Need::Replies);
        assert_eq!(decision, Decision::Ask(begun + 2 * PATIENCE));
        assert_eq!(play.look(Need::News), Decision::Wait(begun + 2 * PATIENCE));
        assert_eq!(play.follow(decision, Need::Replies), Decision::Take);
    }

    #[test]
    fn due_timeouts_ask_at_once() {
        let mut play = Play::new();
        play.gives();
        let decision = play.look(Need::Timeouts);
        assert_eq!(decision, Decision::Ask(play.now + PATIENCE));
        assert_eq!(play.follow(decision, Need::Timeouts), Decision::Take);
    }

    #[test]
    fn idle_runtime_is_looked_at_less_often() {
        let mut play = Play::new();
        play.gives();
        let begun = play.now;
        let decision = play.look(Need::News);
        assert_eq!(decision, Decision::Wait(begun + INTERVAL_IDLE));
        assert_eq!(play.follow(decision, Need::News), Decision::Ask(begun + INTERVAL_IDLE + PATIENCE));
        play.answers += 1;
        assert_eq!(play.look(Need::Replies), Decision::Wait(play.now + PATIENCE));
    }

    #[test]
    fn sockets_stay_longer_after_each_failure_and_not_for_ever() {
        let mut play = Play::new();
        let mut stays = Vec::new();
        for _ in 0..9 {
            play.gives();
            let taken = play.now;
            assert_eq!(play.watch.take(play.now), Decision::Take);
            play.gives();
            stays.push((play.now - taken).as_millis());
            play.watch.take(play.now);
        }
        assert!(stays.is_sorted() && stays[0] == 100 && stays[8] == 10_000, "{stays:?}");
        play.gives();
        play.now += STAY_MAX;
        play.watch.take(play.now);
        let taken = play.now;
        play.gives();
        assert_eq!(play.now - taken, STAY_MIN);
    }
}
