//! Waiting calls to look at, line by line and a few at a time.

use std::collections::BTreeSet;

use crate::proto::{
    calls::{Calls, LineId},
    message::CallId,
};

/// See the module. Calls that come into a line or leave it meanwhile change nothing for the others.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    lines: BTreeSet<LineId>,
    /// The line whose calls are looked at, and the last of them so far, with its owner.
    current: Option<(LineId, (u64, CallId))>,
}

impl Sweep {
    pub(super) fn add(&mut self, lines: impl IntoIterator<Item = LineId>) {
        self.lines.extend(lines);
    }

    /// Takes the next calls, `max` at most; none if all have been looked at.
    pub(super) fn next(&mut self, calls: &Calls, max: usize) -> Vec<CallId> {
        loop {
            let current = self.current.take().map(|(line, last)| (line, Some(last)));
            let Some((line, behind)) = current.or_else(|| Some((self.lines.pop_first()?, None))) else {
                return Vec::new();
            };
            let found = calls.in_line(line, behind, max);
            if let Some(last) = found.last() {
                self.current = Some((line, *last));
                return found.into_iter().map(|(_, call)| call).collect();
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.current.is_none()
    }
}
