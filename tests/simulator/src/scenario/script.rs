//! A seed's events: the calls, and what goes wrong.

use std::time::Duration;

use fastrand::Rng;
use xero::proto::message::Codec;

use super::{
    Action, BreakPlan, CallPlan, GENTLE_TIMEOUT, MIXED, ONCE, Pid, RARE, Role, SAFE, SERVICES, Setup, Temper, Theme, ms,
};
use crate::{
    clock::At,
    work::{Fate, Tag, Work},
};

/// Draws the events.
pub(super) struct Script<'a> {
    pub(super) random: &'a mut Rng,
    pub(super) temper: Temper,
    pub(super) theme: Theme,
    pub(super) setups: &'a [Setup],
    pub(super) time: Duration,
    pub(super) actions: Vec<(At, Action)>,
}

impl Script<'_> {
    pub(super) fn draw(&mut self) {
        self.draw_calls();
        let count = self.random.usize(0..if self.temper == Temper::Gentle { 6 } else { 14 });
        for _ in 0..count {
            let at = self.instant();
            let action = if self.temper == Temper::Gentle { self.gentle() } else { self.harsh() };
            self.actions.push((at, action));
        }
        if self.theme == Theme::Rush {
            self.rush();
        }
        if self.theme == Theme::Diverse {
            (0..2).for_each(|_| self.crash_worker());
            let worker = self.any(|role| role == Role::Worker);
            for _ in 0..self.random.usize(0..4) {
                let at = self.instant();
                self.actions.push((at, Action::Renew(worker)));
            }
        }
        if self.theme == Theme::Crowd {
            (0..10).for_each(|_| self.crash_worker());
        }
        if self.theme == Theme::Memory {
            (0..2).for_each(|_| self.deafen());
        }
        for pid in (0..self.setups.len()).filter(|pid| self.setups[*pid].is_hostile) {
            self.actions.push((At::ZERO, Action::Misbehave(pid)));
        }
        self.actions.sort_by_key(|(at, _)| *at);
    }

    fn draw_calls(&mut self) {
        let bursts = self.random.usize(3..20);
        let mut tag = 0;
        for _ in 0..bursts {
            let (at, client) = (self.instant(), self.any(Role::is_client));
            let size = match self.theme {
                Theme::Memory => self.random.usize(1..24),
                _ if self.random.u8(0..4) == 0 => self.random.usize(4..16),
                _ => 1,
            };
            for _ in 0..size {
                tag += 1;
                let plan = self.plan(Tag(tag));
                self.actions.push((at, Action::Call(client, plan)));
            }
        }
    }

    fn plan(&mut self, tag: Tag) -> CallPlan {
        let is_gentle = self.temper == Temper::Gentle;
        let work = self.work(tag);
        let random = &mut *self.random;
        let timeout = if is_gentle { GENTLE_TIMEOUT } else { ms(random.u64(0..2_500)) };
        CallPlan {
            work,
            service: SERVICES[random.usize(0..SERVICES.len())],
            method: match self.theme {
                Theme::Diverse => [SAFE, ONCE, MIXED, MIXED, MIXED, RARE][random.usize(0..6)],
                _ => [SAFE, ONCE][random.usize(0..2)],
            },
            fingerprint: if self.theme == Theme::Diverse { random.u64(0..3) } else { 0 },
            codec: if self.theme == Theme::Diverse && random.bool() { Codec::MessagePack } else { Codec::Bincode },
            idempotent: [None, None, None, Some(true), Some(false)][random.usize(0..5)],
            fail_fast: !is_gentle && random.u8(0..20) == 0,
            timeout,
            cancel_after: (!is_gentle && random.u8(0..8) == 0).then(|| ms(random.u64(0..500))),
            partials_max: (!is_gentle && random.u8(0..10) == 0).then(|| random.u32(0..3)),
        }
    }

    fn work(&mut self, tag: Tag) -> Work {
        let (random, is_gentle) = (&mut *self.random, self.temper == Temper::Gentle);
        let is_slow = random.u8(0..if self.theme == Theme::Diverse { 2 } else { 4 }) == 0;
        Work {
            tag,
            delay: if random.u8(0..10) == 0 { ms(random.u64(0..30)) } else { Duration::ZERO },
            time: ms(if is_slow { random.u64(0..if is_gentle { 300 } else { 1_200 }) } else { random.u64(0..40) }),
            partials: if random.u8(0..4) == 0 { random.u32(1..6) } else { 0 },
            fate: match random.u8(0..12) {
                0 => Fate::Fails,
                1 => Fate::Panics,
                _ => Fate::Replies,
            },
            is_stubborn: random.u8(0..5) == 0,
            ballast: match random.u16(0..400) {
                0..200 if matches!(self.theme, Theme::Memory | Theme::Diverse) => random.u32(3_000..9_000),
                // Large enough to be announced first.
                0 => 300_000,
                1..40 => random.u32(3_000..9_000),
                _ => random.u32(0..50),
            },
        }
    }

    /// An action that costs no call anything: a draining worker, or a process that is held up for a moment.
    fn gentle(&mut self) -> Action {
        if self.random.bool() {
            return Action::Drain(self.any(|role| role == Role::Worker), ms(self.random.u64(0..300)));
        }
        let process = self.any(|_| true);
        // Its peers tolerate at least twice its interval (a liveness of 3), and hear of it after up to 50 ms.
        let slack = self.setups[process].heartbeats.interval - ms(60).min(self.setups[process].heartbeats.interval);
        Action::Freeze(process, slack.mul_f64(self.random.f64()))
    }

    fn harsh(&mut self) -> Action {
        let process = self.any(|_| true);
        let (random, time) = (&mut *self.random, |random: &mut Rng, max| ms(random.u64(0..max)));
        match random.u8(0..18) {
            0..3 => {
                let (one, other) = self.neighbours();
                Action::Break(one, other, self.break_plan())
            }
            3..5 => {
                let (one, other) = self.neighbours();
                let time = time(self.random, 1_800);
                match self.random.u8(0..3) {
                    0 => Action::Block(one, other, time),
                    1 => Action::Block(other, one, time),
                    _ => {
                        let at = self.instant();
                        self.actions.push((at, Action::Block(one, other, time)));
                        self.actions.push((at, Action::Block(other, one, time)));
                        Action::Block(one, other, time)
                    }
                }
            }
            5..7 => Action::Freeze(process, time(random, 1_800)),
            7..10 => Action::Crash { process, is_silent: random.u8(0..3) == 0, restart_after: time(random, 1_000) },
            10..13 => Action::Drain(process, time(random, 500)),
            13 => Action::Close(process, time(random, 500)),
            14 => Action::Deafen(process, time(random, 2_000)),
            15 => Action::EndRuntime(self.any(|role| role == Role::Worker), ms(self.random.u64(0..300))),
            16 => Action::Slow { process, pause: time(random, 30), time: time(random, 1_500) },
            _ => {
                let worker = self.any(|role| role == Role::Worker);
                Action::Drain(worker, ms(self.random.u64(0..300)))
            }
        }
    }

    /// A client or broker acknowledges nothing, for a while or until the end of all faults.
    fn deafen(&mut self) {
        let (at, process) = (self.instant(), self.any(|role| role != Role::Worker));
        let time = if self.random.bool() { ms(self.random.u64(200..3_000)) } else { Duration::from_secs(3_600) };
        self.actions.push((at, Action::Deafen(process, time)));
    }

    /// More calls at once than any worker takes, for as long as their time allows.
    fn rush(&mut self) {
        let (at, client) = (self.instant(), self.any(Role::is_client));
        let (count, timeout) = (self.random.u64(RUSH_MIN..2 * RUSH_MIN), ms(self.random.u64(100..600)));
        for number in 0..count {
            let plan = CallPlan { timeout, ..self.plan(Tag(RUSH_TAGS_FROM + number)) };
            let plan = CallPlan { cancel_after: None, fail_fast: false, ..plan };
            self.actions.push((at, Action::Call(client, plan)));
        }
    }

    /// A worker dies with what it runs, so that another one may get it.
    fn crash_worker(&mut self) {
        let (at, process) = (self.instant(), self.any(|role| role == Role::Worker));
        let (is_silent, restart_after) = (self.random.u8(0..3) == 0, ms(self.random.u64(0..1_000)));
        self.actions.push((at, Action::Crash { process, is_silent, restart_after }));
    }

    fn break_plan(&mut self) -> BreakPlan {
        let random = &mut *self.random;
        let noticed_after = [0, 1].map(|_| (random.u8(0..3) > 0).then(|| ms(random.u64(0..300))));
        BreakPlan { noticed_after, arrives_percent: random.u8(0..=100) }
    }

    /// Two processes; the first dials the second.
    fn neighbours(&mut self) -> (Pid, Pid) {
        let one = self.any(|role| matches!(role, Role::Worker | Role::Dialing));
        let dials = &self.setups[one].dials;
        (one, dials[self.random.usize(0..dials.len())].process)
    }

    fn any(&mut self, is_meant: fn(Role) -> bool) -> Pid {
        let pids: Vec<_> = (0..self.setups.len())
            .filter(|pid| is_meant(self.setups[*pid].role) && !self.setups[*pid].is_hostile)
            .collect();
        pids[self.random.usize(0..pids.len())]
    }

    fn instant(&mut self) -> At {
        let millis = self.time.as_millis() as u64;
        At::ZERO.after(ms(self.random.u64(0..millis)))
    }
}

/// More calls than a machine may end in one pass.
const RUSH_MIN: u64 = 1_200;

/// Behind the tags of all other calls.
const RUSH_TAGS_FROM: u64 = 10_000;
