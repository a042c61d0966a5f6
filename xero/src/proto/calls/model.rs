//! Waiting calls against a model that scans everything, under random operations from a seed.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    WaitPolicy,
    queue::{LineId, Place, QueueId},
    waiting::{Crew, LineKey, Waiting},
};
use crate::proto::{
    message::{CallId, Codec},
    registry::{Distinction, MethodId, PoolId, Station},
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
        assert!(!play.waiting.has_queues(), "seed {seed}");
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
    /// Where each line stands.
    stations: BTreeMap<LineKey, BTreeSet<Station>>,
    /// The stations of each pool.
    crews: BTreeMap<PoolId, BTreeSet<Station>>,
    last: u64,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut crew = |_| stations().filter(|_| random.u8(0..3) == 0).collect();
        let crews = (0..POOLS).map(|pool| (PoolId(pool), crew(pool))).collect();
        Self {
            random,
            waiting: Waiting::default(),
            calls: BTreeMap::new(),
            turns: BTreeMap::new(),
            turn: 0,
            stations: BTreeMap::new(),
            crews,
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
            distinction: self.distinction(),
            codec: Codec::Json,
            is_large: self.random.bool(),
            must_declare: false,
            wait_policy: WaitPolicy::UntilDeadline,
        };
        self.turns.entry(owner).or_insert(self.turn);
        let (line, is_new) = self.waiting.insert(key, owner, id);
        self.calls.insert(id, Known { owner, key, line });
        self.note_new(key, line, is_new);
    }

    fn distinction(&mut self) -> Distinction {
        let exceeds = Some(self.random.u64(0..LIMITS)).filter(|limit| *limit > 0);
        Distinction { fingerprint: Some(self.random.u64(0..4)), exceeds }
    }

    fn note_new(&mut self, key: LineKey, line: LineId, is_new: bool) {
        assert_eq!(is_new, !self.stations.contains_key(&key));
        if is_new {
            self.retarget(key, line);
        }
    }

    fn forget_empty(&mut self, key: LineKey) {
        if !self.calls.values().any(|known| known.key == key) {
            self.stations.remove(&key);
        }
    }

    fn remove(&mut self, call: CallId) {
        let Known { owner, key, line } = self.calls.remove(&call).expect("it waits");
        assert_eq!(self.waiting.remove(line, owner, call), Some(key.method));
        self.forget_empty(key);
        if !self.calls.values().any(|known| known.owner == owner) {
            self.turns.remove(&owner);
        }
    }

    /// A worker makes another distinction between calls of a method.
    fn distinguish(&mut self) {
        let Some(call) = self.any() else { return };
        let Known { owner, key, line } = self.calls[&call];
        let distinction = self.distinction();
        let moved = self.waiting.distinguish(line, owner, call, distinction);
        assert_eq!(moved.is_none(), distinction == key.distinction);
        if let Some((line, is_new)) = moved {
            let known = Known { owner, key: LineKey { distinction, ..key }, line };
            self.calls.insert(call, known);
            self.note_new(known.key, line, is_new);
            self.forget_empty(key);
        }
    }

    fn serve(&mut self) {
        let pool = PoolId(self.random.u32(0..POOLS));
        if let Some((((_, call), _), _)) = self.waiting.next_for(pool, true, &Members(&self.crews[&pool])) {
            let owner = self.calls[&call].owner;
            self.remove(call);
            self.waiting.note_served(owner);
            if self.turns.len() > 1 {
                self.turn += 1;
                if let Some(turn) = self.turns.get_mut(&owner) {
                    *turn = self.turn;
                }
            }
        }
    }

    fn retarget(&mut self, key: LineKey, line: LineId) {
        let at: BTreeSet<_> = stations().filter(|_| self.random.bool()).collect();
        let before = self.stations.insert(key, at.clone()).unwrap_or_default();
        assert_eq!(self.waiting.retarget(line, &at.iter().copied().collect::<Vec<_>>()), at != before);
    }

    fn any(&mut self) -> Option<CallId> {
        let count = self.calls.len();
        (count > 0).then(|| self.random.usize(0..count)).and_then(|place| self.calls.keys().nth(place).copied())
    }

    fn check(&mut self, at: &str) {
        for queue in queues() {
            let expected = self.firsts(|known| {
                known.key.queue(queue.station) == queue && self.stations[&known.key].contains(&queue.station)
            });
            let mut found = Vec::new();
            while let Some(next) = self.waiting.next(queue, found.last().copied()) {
                found.push(next);
            }
            assert_eq!(found, expected, "{at}");
        }
        // Pools look now and then: others have missed much.
        for (pool, is_roomy) in (0..POOLS).flat_map(|pool| [true, false].map(|is_roomy| (PoolId(pool), is_roomy))) {
            if self.random.u8(0..4) == 0 {
                let crew = &self.crews[&pool];
                let is_meant = |known: &Known| {
                    let mut stations = self.stations[&known.key].iter().map(|station| known.key.queue(*station));
                    (is_roomy || !known.key.is_large) && stations.any(|queue| Members(crew).takes_from(queue))
                };
                let next = self.waiting.next_for(pool, is_roomy, &Members(crew));
                assert_eq!(next.map(|(place, _)| place), self.firsts(is_meant).first().copied(), "{at}");
            }
        }
        assert_eq!(self.waiting.len(), self.calls.len(), "{at}");
        (0..5).for_each(|owner| assert_eq!(self.waiting.crowding(owner), self.crowding(owner), "{at}"));
    }

    /// The first call of each such line, in order.
    fn firsts(&self, is_meant: impl Fn(&Known) -> bool) -> Vec<Place> {
        let mut firsts = BTreeMap::new();
        for (call, known) in self.calls.iter().filter(|(_, known)| is_meant(known)) {
            let first = (self.turns[&known.owner], *call);
            let line = firsts.entry(known.line).or_insert(first);
            *line = first.min(*line);
        }
        let mut firsts: Vec<_> = firsts.into_iter().map(|(line, first)| (first, line)).collect();
        firsts.sort_unstable();
        firsts
    }

    fn crowding(&self, owner: u64) -> Option<CallId> {
        let share = |owner| self.calls.values().filter(|known| known.owner == owner).count();
        let largest = (0..5).max_by_key(|other| share(*other)).filter(|other| share(*other) > share(owner))?;
        self.calls.iter().filter(|(_, known)| known.owner == largest).map(|(call, _)| *call).max()
    }
}

/// The stations of a pool.
struct Members<'a>(&'a BTreeSet<Station>);

impl Crew for Members<'_> {
    fn born(&self) -> u64 {
        1
    }

    fn station_count(&self) -> usize {
        self.0.len()
    }

    fn stations(&self) -> Vec<Station> {
        self.0.iter().copied().collect()
    }

    fn takes_from(&self, queue: QueueId) -> bool {
        self.0.contains(&queue.station) && queue.exceeds.is_none_or(|limit| limit < LIMITS / 2 + self.0.len() as u64)
    }
}

fn queues() -> impl Iterator<Item = QueueId> {
    let of = |station| {
        let limits = (0..LIMITS).map(|limit| Some(limit).filter(|limit| *limit > 0));
        limits.flat_map(move |exceeds| [false, true].map(|is_large| QueueId { station, exceeds, is_large }))
    };
    stations().flat_map(of)
}

fn stations() -> impl Iterator<Item = Station> {
    (0..STATIONS).map(|number| Station::numbered(MethodId(0), number))
}

const POOLS: u32 = 4;
const STATIONS: u64 = 6;
/// In some seeds more queues than a pool notes.
const LIMITS: u64 = 20;
const METHODS: u32 = 3;
const SEEDS: u64 = 40;
const STEPS: u32 = 300;
