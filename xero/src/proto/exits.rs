//! What leaves a machine: messages to its peers, and outputs to its owner.

use std::collections::VecDeque;

use super::links::Links;

/// See the module.
#[derive(Debug)]
pub(super) struct Exits<O> {
    pub(super) links: Links,
    outputs: VecDeque<O>,
}

impl<O> Exits<O> {
    pub(super) fn new(links: Links) -> Self {
        Self { links, outputs: VecDeque::new() }
    }

    /// Adds an output.
    pub(super) fn report(&mut self, output: O) {
        self.outputs.push_back(output);
    }

    /// Gives the next output.
    pub(super) fn poll(&mut self) -> Option<O> {
        self.outputs.pop_front()
    }

    /// Whether nothing is left to send or report.
    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty() && self.outputs.is_empty()
    }
}
