//! The content of calls and answers. An argument says how its procedure must behave. An answer names its run and its
//! call, so that an answer that reaches another call is noticed.

use std::time::Duration;

use xero::proto::message::{Codec, Payload};

/// A call's number in the ledger, unique in a simulation. It travels in the argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag(pub(super) u64);

impl Tag {
    /// A request that a hostile process has made up.
    pub(super) fn of_hostile(pid: usize, number: u64) -> Self {
        Self(HOSTILE_TAGS_FROM * (pid as u64 + 1) + number)
    }

    /// The hostile process that has made it up.
    pub(super) fn hostile(self) -> Option<usize> {
        let pid = (self.0 / HOSTILE_TAGS_FROM).checked_sub(1)?;
        usize::try_from(pid).ok()
    }

    pub(super) fn is_hostile(self) -> bool {
        self.hostile().is_some()
    }
}

/// One run of a procedure, numbered by the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run(pub(super) u64);

/// How an undisturbed procedure ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Replies,
    Fails,
    Panics,
}

/// The argument of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) tag: Tag,
    /// How long the worker's runtime takes to start it.
    pub(super) delay: Duration,
    /// How long it runs.
    pub(super) time: Duration,
    /// The number of partial replies before its end.
    pub(super) partials: u32,
    pub(super) fate: Fate,
    /// Whether it continues after an abort.
    pub(super) is_stubborn: bool,
    /// Bytes of ballast, in the argument and in the reply.
    pub(super) ballast: u32,
}

impl Work {
    pub(super) fn payload(&self, codec: Codec) -> Payload {
        let fate = match self.fate {
            Fate::Replies => 0,
            Fate::Fails => 1,
            Fate::Panics => 2,
        };
        let micros = |time: Duration| u32::try_from(time.as_micros()).expect("procedures take seconds at most");
        let mut bytes = Vec::with_capacity(WORK_BYTES + self.ballast as usize);
        bytes.extend(self.tag.0.to_be_bytes());
        [micros(self.delay), micros(self.time), self.partials, fate, u32::from(self.is_stubborn), self.ballast]
            .iter()
            .for_each(|number| bytes.extend(number.to_be_bytes()));
        bytes.resize(WORK_BYTES + self.ballast as usize, 0);
        Payload { codec, bytes: bytes.into() }
    }

    pub(super) fn payload_bytes(&self) -> u64 {
        WORK_BYTES as u64 + u64::from(self.ballast)
    }

    /// `None` if the payload is not an argument.
    pub(super) fn read(payload: &Payload) -> Option<Self> {
        let (tag, rest) = payload.bytes.split_first_chunk()?;
        let numbers: Vec<u32> = rest.get(..24)?.as_chunks().0.iter().map(|chunk| u32::from_be_bytes(*chunk)).collect();
        let &[delay, time, partials, fate, is_stubborn, ballast] = numbers.as_slice() else { return None };
        Some(Self {
            tag: Tag(u64::from_be_bytes(*tag)),
            delay: Duration::from_micros(delay.into()),
            time: Duration::from_micros(time.into()),
            partials,
            fate: [Fate::Replies, Fate::Fails, Fate::Panics].get(fate as usize).copied()?,
            is_stubborn: is_stubborn == 1,
            ballast,
        })
    }
}

/// A partial reply, a final reply or an error of a method's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) tag: Tag,
    pub(super) run: Run,
    /// A partial reply's number; in a final reply or an error, the number of partial replies.
    pub(super) number: u64,
}

impl Answer {
    pub(super) fn payload(&self, ballast: u32) -> Payload {
        let mut bytes = [self.tag.0, self.run.0, self.number].map(u64::to_be_bytes).concat();
        bytes.resize(bytes.len() + ballast as usize, 0);
        payload(bytes)
    }

    /// `None` if no procedure wrote the payload.
    pub(super) fn read(payload: &Payload) -> Option<Self> {
        let numbers: Vec<u64> = payload.bytes.as_chunks().0.iter().take(3).map(|b| u64::from_be_bytes(*b)).collect();
        let &[tag, run, number] = numbers.as_slice() else { return None };
        Some(Self { tag: Tag(tag), run: Run(run), number })
    }
}

fn payload(bytes: Vec<u8>) -> Payload {
    Payload { codec: Codec::Bincode, bytes: bytes.into() }
}

/// Tags of hostile processes begin here, each one's at a multiple of it.
const HOSTILE_TAGS_FROM: u64 = 1 << 32;

/// The argument's numbers: a tag and six others.
pub(super) const WORK_BYTES: usize = 8 + 6 * 4;
