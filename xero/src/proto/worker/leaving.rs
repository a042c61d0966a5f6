//! Lost connections, and the worker's own leaving.

use super::*;

impl Worker {
    /// Takes a connection's requests from it: aborts running ones, forgets waiting ones.
    pub(super) fn disown(&mut self, peer: Peer) {
        let Some(requests) = self.requests.remove(&peer) else { return };
        self.outputs.push_back(WorkerOutput::Unregistered(peer));
        self.backlog.forget(peer);
        for execution in requests.into_values() {
            if planted(Fault::ExecutionKept) {
                break;
            }
            let Some(task) = self.executions.get_mut(&execution) else { continue };
            if !planted(Fault::StaleReplySent) {
                task.caller = None;
            }
            if task.waiting.is_some() {
                self.executions.remove(&execution);
                self.timers.stop(Timer::Overrun(execution));
            } else if task.aborted.replace(ErrorCode::Cancelled).is_none() {
                self.outputs.push_back(WorkerOutput::Abort(execution));
            }
        }
    }

    /// Says goodbye once nothing runs and no reply is kept; the worker has left once all peers have gone.
    pub(super) fn finish_drain(&mut self, now: Instant) {
        let is_done = self.executions.is_empty() && !self.requests.keys().any(|peer| self.is_holding(*peer));
        if self.leaving == Leaving::Draining && (is_done || planted(Fault::DrainCutShort)) {
            self.say_goodbye(now);
        }
        if self.leaving == Leaving::Goodbye && self.links.are_gone() {
            self.leaving = Leaving::Left;
            self.timers.stop(Timer::Leave);
            self.outputs.push_back(WorkerOutput::Left);
        }
    }

    /// Whether replies to that dispatcher are kept until its window has room.
    fn is_holding(&self, peer: Peer) -> bool {
        self.links.outflow(peer).is_some_and(|outflow| !outflow.is_empty())
    }

    fn say_goodbye(&mut self, now: Instant) {
        self.leaving = Leaving::Goodbye;
        self.timers.set(Timer::Leave, now + GOODBYE_GRACE);
        self.registered().collect::<Vec<_>>().into_iter().for_each(|peer| self.say_goodbye_to(now, peer));
    }

    pub(super) fn say_goodbye_to(&mut self, now: Instant, peer: Peer) {
        self.links.say_goodbye(now, peer);
        self.requests.remove(&peer);
    }

    /// Handles the end of the time for leaving.
    pub(super) fn force_leave(&mut self, now: Instant) {
        match self.leaving {
            Leaving::Draining => self.give_up_executions(now),
            _ => self.give_up_goodbyes(now),
        }
    }

    /// Answers requests that still run, and leaves.
    fn give_up_executions(&mut self, now: Instant) {
        for (execution, task) in mem::take(&mut self.executions) {
            self.timers.stop(Timer::Overrun(execution));
            self.outputs.push_back(WorkerOutput::Abort(execution));
            let Some((peer, call)) = task.caller else { continue };
            let detail = "the worker's drain timeout has passed".to_owned();
            let finish = Finish::Error { code: ErrorCode::Refused, detail, payload: Payload::default() };
            self.answer(now, peer, call, &task, finish);
            self.forget_request(now, peer, task.held);
        }
        self.backlog = Backlog::default();
        self.running = 0;
        // A goodbye would overtake the kept replies, and report their requests as not started.
        for peer in self.links.peers().into_iter().filter(|peer| self.is_holding(*peer)).collect::<Vec<_>>() {
            self.links.hang_up(now, peer, Departure::Disconnected);
        }
        self.say_goodbye(now);
    }

    /// Stops waiting for the goodbye to be read, except where a large reply may still be on its way.
    fn give_up_goodbyes(&mut self, now: Instant) {
        let expiry = self.config.heartbeats.own_expiry();
        let may_be_sending = now < self.leave_by && self.sending_until.is_some_and(|until| now < until + expiry);
        for peer in self.links.peers() {
            // A dispatcher that still reads a large reply keeps sending heartbeats; a silent one expires.
            let is_said = self.links.get(peer).is_some_and(Link::is_leaving);
            if !(may_be_sending && is_said) {
                self.links.hang_up(now, peer, Departure::Goodbye);
            }
        }
        self.timers.set(Timer::Leave, self.leave_by);
    }
}
