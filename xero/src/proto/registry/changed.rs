//! What has changed for the calls that wait for a method.

use super::ids::PoolId;

/// The pools of a method that serve it anew, or no longer.
#[derive(Clone, Debug)]
pub(crate) enum ChangedPools {
    Few(Vec<PoolId>),
    /// Many, or the service itself is new, or gone.
    All,
    /// Signatures or limits have come or gone, so that other calls than before suit the same workers.
    Others,
}

impl Default for ChangedPools {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl ChangedPools {
    pub(super) fn note(&mut self, pool: PoolId, are_others: bool) {
        match self {
            _ if are_others => *self = Self::Others,
            Self::Few(pools) if pools.contains(&pool) => {}
            Self::Few(pools) if pools.len() < FEW_POOLS => pools.push(pool),
            _ => self.note_all(),
        }
    }

    pub(super) fn note_all(&mut self) {
        if let Self::Few(_) = self {
            *self = Self::All;
        }
    }
}

/// So many changed pools are looked at one by one in each line that waits for them.
const FEW_POOLS: usize = 8;
