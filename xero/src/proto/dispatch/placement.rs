//! Open calls and registered workers: who can take a call, and which calls wait for whom.

use std::collections::BTreeSet;

use crate::proto::{
    calls::{Call, Calls, LineId, Precedence, WaitPolicy},
    fault::{Fault, count_step, planted},
    message::{CallId, Peer},
    registry::{ChangedPools, IsFull, MethodId, Outlook, PoolId, Registry, Route, WorkerChoice},
};

/// See the module.
///
/// The registry keeps a method's number while a line of calls waits for it, and each line stands in the queues of the
/// pools that can take its calls.
#[derive(Debug)]
pub(super) struct Placement {
    pub(super) registry: Registry,
    calls: Calls,
    choice: Box<dyn WorkerChoice>,
}

/// What changed offers mean to waiting calls.
#[derive(Debug)]
pub(super) struct Prospects {
    /// The calls that no worker can take any more, and that may not wait for one.
    pub(super) hopeless: Vec<CallId>,
    /// Pools with a free worker for some of the calls.
    pub(super) free: BTreeSet<PoolId>,
    /// The pools that the lines of these calls stand at, each counted for itself.
    pub(super) places: usize,
}

impl Placement {
    pub(super) fn new(registry: Registry, choice: Box<dyn WorkerChoice>) -> Self {
        Self { registry, calls: Calls::default(), choice }
    }

    pub(super) fn calls(&self) -> &Calls {
        &self.calls
    }

    pub(super) fn calls_mut(&mut self) -> &mut Calls {
        &mut self.calls
    }

    /// Removes a call, and its place in line.
    pub(super) fn remove(&mut self, id: CallId) -> Option<Call> {
        self.dequeue(id);
        self.calls.remove(id)
    }

    /// Finds a worker for a call; `None` if the call has ended.
    pub(super) fn route(&mut self, id: CallId, is_full: &IsFull<'_>) -> Option<Route> {
        let call = self.calls.get(id)?;
        Some(self.registry.route(&mut *self.choice, &call.need(), is_full))
    }

    /// Gives a call to a worker with that declaration of its method; takes no credit yet.
    pub(super) fn assign(&mut self, id: CallId, worker: Peer, idempotent: bool) -> Option<&mut Call> {
        self.dequeue(id);
        self.calls.send(id, worker, idempotent)
    }

    /// Puts a call in line that no worker can take now.
    pub(super) fn enqueue(&mut self, id: CallId) {
        let Some(call) = self.calls.get(id) else { return };
        let method = self.registry.hold_line(&call.spec.service, &call.spec.method);
        let distinction = self.registry.distinguish(method, &call.need());
        match self.calls.enqueue(id, method, distinction) {
            Some(line) => drop(self.follow(line, &ChangedPools::All)),
            None => self.registry.release_line(method),
        }
    }

    /// The next waiting call that a free worker of the pool may have, after a given place; a large one only if one of them
    /// has room for it.
    pub(super) fn next_waiting(
        &mut self,
        pool: PoolId,
        behind: Option<(Precedence, LineId)>,
        is_roomy: bool,
    ) -> Option<(Precedence, LineId)> {
        self.registry.is_free(pool).then(|| self.calls.next_waiting(pool, behind, is_roomy)).flatten()
    }

    /// Follows changed offers of methods that calls wait for.
    pub(super) fn follow_offers(&mut self) -> Prospects {
        let mut prospects = Prospects { hopeless: Vec::new(), free: BTreeSet::new(), places: 0 };
        for (method, changed) in self.registry.take_changed() {
            if let ChangedPools::Others = changed {
                prospects.places += self.distinguish(method);
            }
            for line in self.used_lines_of(method) {
                match self.follow(line, &changed) {
                    Ok(pools) => {
                        prospects.places += 1 + pools.len();
                        prospects.free.extend(pools.into_iter().filter(|pool| self.registry.is_free(*pool)));
                    }
                    Err(outlook) => prospects.hopeless.extend(self.hopeless_in(line, &outlook)),
                }
            }
        }
        prospects
    }

    /// Puts a line into the queues of changed pools. Returns those that can take its calls.
    fn follow(&mut self, line: LineId, changed: &ChangedPools) -> Result<Vec<PoolId>, Outlook> {
        count_step();
        let Some(need) = self.calls.need_of(line) else { return Ok(Vec::new()) };
        let grade = self.registry.grade(&need);
        if let (Ok(grade), ChangedPools::Few(pools)) = (&grade, changed)
            && self.calls.grade_of(line) == Some(*grade)
        {
            let targets: Vec<_> = pools.iter().map(|pool| self.registry.is_target(&need, *grade, *pool)).collect();
            let targets = pools.iter().copied().zip(targets);
            targets.clone().for_each(|(pool, is_target)| self.calls.set_target(line, pool, is_target));
            return Ok(targets.filter(|(_, is_target)| *is_target).map(|(pool, _)| pool).collect());
        }
        let pools = grade.as_ref().map(|grade| self.registry.targets(&need, *grade)).unwrap_or_default();
        self.calls.retarget(line, grade.as_ref().ok().copied(), pools.clone());
        grade.map(|_| pools)
    }

    /// Puts the calls that wait for a method into the lines of what distinguishes them now. Returns their number.
    fn distinguish(&mut self, method: MethodId) -> usize {
        let lines = self.calls.lines_of(method);
        let calls: Vec<_> = lines.into_iter().flat_map(|line| self.calls.in_line(line)).collect();
        for id in &calls {
            let Some(call) = self.calls.get(*id) else { continue };
            let distinction = self.registry.distinguish(method, &call.need());
            if self.calls.distinguish(*id, distinction).is_some() {
                self.registry.hold_line_again(method);
            }
        }
        calls.len()
    }

    /// The lines of a method with calls in them; the others would be in the wrong queues now.
    fn used_lines_of(&mut self, method: MethodId) -> Vec<LineId> {
        (0..self.calls.remove_empty_lines(method)).for_each(|_| self.registry.release_line(method));
        self.calls.lines_of(method)
    }

    fn hopeless_in(&self, line: LineId, outlook: &Outlook) -> Vec<CallId> {
        let calls = self.calls.in_line(line);
        let policy = calls.first().and_then(|id| self.calls.get(*id)).map(|call| call.spec.wait_policy);
        let is_awaited = policy.is_none_or(|policy| !is_hopeless(outlook, policy)) || planted(Fault::NobodyAwaited);
        if is_awaited { Vec::new() } else { calls }
    }

    fn dequeue(&mut self, id: CallId) {
        if let Some(method) = self.calls.dequeue(id) {
            self.registry.release_line(method);
        }
    }
}

/// Whether a call should not wait for a better outlook. A service may still appear, which is worth a wait; a worker
/// with the service but without the method, or the codec, shows a mistake.
pub(super) fn is_hopeless(outlook: &Outlook, policy: WaitPolicy) -> bool {
    *outlook != Outlook::NoService || policy != WaitPolicy::UntilDeadline
}
