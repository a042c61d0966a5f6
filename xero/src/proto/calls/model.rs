//! Waiting calls against a model that scans everything, under random operations from a seed.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    WaitPolicy,
    waiting::{EMPTY_LINES_MAX, LineId, LineKey, Waiting},
};
use crate::proto::{
    message::{CallId, Codec},
    registry::{Distinction, MethodId, PoolId},
};

#[test]
fn lines_and_scan_agree_on_who_is_served_next() {
    for seed in 0..SEEDS {
        let mut play = Play::new(seed);
        for step in 0..STEPS {
            play.step();
            play.check(&format!("seed {seed}, step {step}"));
        }
        for call in play.calls.keys().copied().collect::<Vec<_>>() {
            play.remove(call);
        }
        assert_eq!(play.waiting.len(), 0, "seed {seed}");
        assert!(play.waiting.empty_count() <= EMPTY_LINES_MAX, "seed {seed}");
        (0..METHODS).for_each(|method| play.remove_empty(MethodId(method)));
        assert_eq!(play.waiting.empty_count(), 0, "seed {seed}");
        assert!((0..POOLS).all(|pool| play.waiting.next(PoolId(pool), None, true).is_none()), "seed {seed}");
    }
}

/// A waiting call, as the model knows it.
#[derive(Clone, Copy, Debug)]
struct Known {
    owner: u64,
    key: LineKey,
    line: LineId,
}

struct Play {
    random: fastrand::Rng,
    waiting: Waiting,
    calls: BTreeMap<CallId, Known>,
    turns: BTreeMap<u64, u64>,
    turn: u64,
    /// The pools that serve each line.
    pools: BTreeMap<LineKey, BTreeSet<PoolId>>,
    /// The lines without calls, by the time since they have none.
    empty: Vec<LineKey>,
    last: u64,
}

impl Play {
    fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            waiting: Waiting::default(),
            calls: BTreeMap::new(),
            turns: BTreeMap::new(),
            turn: 0,
            pools: BTreeMap::new(),
            empty: Vec::new(),
            last: 0,
        }
    }

    fn step(&mut self) {
        match self.random.u32(0..10) {
            0..5 => self.insert(),
            5..7 => {
                if let Some(call) = self.any() {
                    self.remove(call);
                }
            }
            7..8 => self.serve(),
            8 => self.distinguish(),
            _ => {
                let method = MethodId(self.random.u32(0..METHODS));
                self.remove_empty(method);
                if let Some(call) = self.any() {
                    let Known { key, line, .. } = self.calls[&call];
                    self.retarget(key, line);
                }
            }
        }
    }

    fn insert(&mut self) {
        // Retried calls return with old ids.
        self.last += self.random.u64(1..4);
        let id = CallId(self.last - self.random.u64(0..self.last.min(20)));
        if self.calls.contains_key(&id) {
            return;
        }
        let owner = self.random.u64(0..5);
        let key = LineKey {
            method: MethodId(self.random.u32(0..METHODS)),
            distinction: Distinction { fingerprint: Some(self.random.u64(0..4)), exceeds: None },
            codec: Codec::Json,
            is_large: self.random.bool(),
            must_declare: false,
            wait_policy: WaitPolicy::UntilDeadline,
        };
        self.turns.entry(owner).or_insert(self.turn);
        let (line, is_new) = self.waiting.insert(key, owner, id);
        self.calls.insert(id, Known { owner, key, line });
        assert_eq!(is_new, !self.pools.contains_key(&key));
        if is_new {
            self.retarget(key, line);
        }
        self.empty.retain(|empty| *empty != key);
    }

    fn remove(&mut self, call: CallId) {
        let Known { owner, key, line } = self.calls.remove(&call).expect("it waits");
        let is_last = !self.calls.values().any(|known| known.key == key);
        let mut gone = None;
        if is_last && self.pools[&key].is_empty() {
            gone = Some(key);
        } else if is_last {
            self.empty.push(key);
            gone = (self.empty.len() > EMPTY_LINES_MAX).then(|| self.empty.remove(0));
        }
        gone.inspect(|key| drop(self.pools.remove(key)));
        assert_eq!(self.waiting.remove(line, owner, call), gone.map(|key| key.method));
        if !self.calls.values().any(|known| known.owner == owner) {
            self.turns.remove(&owner);
        }
    }

    fn remove_empty(&mut self, method: MethodId) {
        let (gone, kept): (Vec<_>, Vec<_>) = self.empty.iter().partition(|key| key.method == method);
        gone.iter().for_each(|key| drop(self.pools.remove(key)));
        self.empty = kept;
        assert_eq!(self.waiting.remove_empty(method), gone.len());
    }

    /// A worker makes another distinction between calls of a method, as after which empty lines are removed.
    fn distinguish(&mut self) {
        let Some(call) = self.any() else { return };
        let Known { owner, key, line } = self.calls[&call];
        let distinction = Distinction { fingerprint: Some(self.random.u64(0..4)), exceeds: None };
        let moved = self.waiting.distinguish(line, owner, call, distinction);
        assert_eq!(moved.is_none(), distinction == key.distinction);
        if let Some((line, is_new)) = moved {
            let known = Known { owner, key: LineKey { distinction, ..key }, line };
            self.calls.insert(call, known);
            assert_eq!(is_new, !self.pools.contains_key(&known.key));
            if is_new {
                self.retarget(known.key, line);
            }
            self.empty.retain(|empty| *empty != known.key);
            if !self.calls.values().any(|known| known.key == key) {
                self.empty.push(key);
            }
        }
        self.remove_empty(key.method);
    }

    fn serve(&mut self) {
        let pool = PoolId(self.random.u32(0..POOLS));
        if let Some(((_, call), _)) = self.waiting.next(pool, None, true) {
            let owner = self.calls[&call].owner;
            self.remove(call);
            self.waiting.note_served(owner);
            self.turn += 1;
            if let Some(turn) = self.turns.get_mut(&owner) {
                *turn = self.turn;
            }
        }
    }

    fn retarget(&mut self, key: LineKey, line: LineId) {
        let pools: BTreeSet<_> = (0..POOLS).filter(|_| self.random.bool()).map(PoolId).collect();
        let known = self.pools.get(&key).filter(|_| self.random.bool());
        match known.cloned() {
            Some(before) => {
                let changed = before.symmetric_difference(&pools);
                changed.for_each(|pool| self.waiting.set_target(line, *pool, pools.contains(pool)));
            }
            None => self.waiting.retarget(line, None, pools.iter().copied().collect()),
        }
        self.pools.insert(key, pools);
    }

    fn any(&mut self) -> Option<CallId> {
        let count = self.calls.len();
        (count > 0).then(|| self.random.usize(0..count)).and_then(|place| self.calls.keys().nth(place).copied())
    }

    fn check(&mut self, at: &str) {
        for (pool, is_roomy) in (0..POOLS).flat_map(|pool| [true, false].map(|is_roomy| (PoolId(pool), is_roomy))) {
            // The first call of each line that the pool serves, in the pool's order.
            let mut firsts = BTreeMap::new();
            let is_meant = |known: &Known| is_roomy || !known.key.is_large;
            let served =
                self.calls.iter().filter(|(_, known)| self.pools[&known.key].contains(&pool) && is_meant(known));
            for (call, known) in served {
                let first = (self.turns[&known.owner], *call);
                let line = firsts.entry(known.line).or_insert(first);
                *line = first.min(*line);
            }
            let mut expected: Vec<_> = firsts.into_iter().map(|(line, first)| (first, line)).collect();
            expected.sort_unstable();
            let mut served = Vec::new();
            while let Some(next) = self.waiting.next(pool, served.last().copied(), is_roomy) {
                served.push(next);
            }
            assert_eq!(served, expected, "{at}");
        }
        assert_eq!(self.waiting.len(), self.calls.len(), "{at}");
        (0..5).for_each(|owner| assert_eq!(self.waiting.crowding(owner), self.crowding(owner), "{at}"));
    }

    fn crowding(&self, owner: u64) -> Option<CallId> {
        let share = |owner| self.calls.values().filter(|known| known.owner == owner).count();
        let largest = (0..5).max_by_key(|other| share(*other)).filter(|other| share(*other) > share(owner))?;
        self.calls.iter().filter(|(_, known)| known.owner == largest).map(|(call, _)| *call).max()
    }
}

const POOLS: u32 = 4;
const METHODS: u32 = 3;
const SEEDS: u64 = 100;
const STEPS: u32 = 300;
