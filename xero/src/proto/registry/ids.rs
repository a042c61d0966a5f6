//! The numbers of pools, methods and services in the index, and the turns of free workers.

use crate::proto::message::Peer;

/// A pool of interchangeable workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PoolId(pub(in crate::proto) u32);

/// A method that workers offer, or that calls wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MethodId(pub(in crate::proto) u32);

/// A service, with or without such a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ServiceId(pub(super) u32);

/// A free worker, with the turn in which it was last used.
pub(super) type Free = (u64, Peer);

/// Whether a worker's byte window is full.
pub(crate) type IsFull<'a> = dyn Fn(Peer) -> bool + 'a;
