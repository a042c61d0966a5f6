//! The processes' applications: clients that call, take replies and cancel, and procedures.

use std::time::Instant;

use xero::proto::{
    calls::{CallEnd, CallSpec, WaitPolicy},
    message::{CallId, ErrorCode, Metadata, Payload},
    timer::Execution,
    worker::{Finish, Start},
};

use super::{
    machine::door_of,
    network::{Event, Step},
    process::{Job, Process},
    scenario::{CallPlan, Pid},
    work::{Answer, Fate, Work},
    world::World,
};

impl World {
    pub(super) fn call(&mut self, pid: Pid, plan: CallPlan) {
        // A stopped process makes no call; a leaving one refuses at once, which is worth testing.
        if !self.processes[pid].is_running() || self.processes[pid].has_left {
            return;
        }
        let (now, at) = (self.local(pid), self.now);
        let id = self.processes[pid].next_call(pid);
        self.processes[pid].calls.insert(id, plan.work.tag);
        if let Some(time) = plan.cancel_after {
            let incarnation = self.processes[pid].incarnation;
            self.post_after(time, Event::Cancel { process: pid, incarnation, call: id });
        }
        self.log(pid, &format_args!("calls {id}: {plan:?}"));
        let spec = spec_of(now, &plan);
        let deadline_at = self.processes[pid].clock.at(spec.deadline);
        self.ledger.call_made(pid, &self.processes[pid], id, plan, [at, deadline_at]);
        self.processes[pid].machine.call(now, id, spec);
        self.drain_outputs(pid);
        self.touch(pid);
    }

    pub(super) fn cancel(&mut self, pid: Pid, incarnation: u32, call: CallId) {
        if !self.is_alive(pid, incarnation) || !self.processes[pid].is_running() {
            return;
        }
        let Some(tag) = self.processes[pid].calls.remove(&call) else { return };
        let now = self.local(pid);
        self.log(pid, &format_args!("no longer wants {call}"));
        self.ledger.call_cancelled(tag);
        self.processes[pid].machine.cancel(now, call);
        self.drain_outputs(pid);
        self.touch(pid);
    }

    pub(super) fn take_partial(&mut self, pid: Pid, call: CallId, payload: &Payload) {
        let answer = Answer::read(payload);
        self.log(pid, &format_args!("receives a partial reply of {call}: {answer:?}"));
        let Some(tag) = self.processes[pid].calls.get(&call).copied() else {
            return self.ledger.blame(format!("a partial reply of {call}, which is over"));
        };
        let received = self.ledger.partial_received(tag, answer);
        let plan = self.ledger.plan_of(tag);
        if plan.is_some_and(|plan| plan.partials_max.is_some_and(|max| received > max)) {
            let now = self.local(pid);
            self.log(pid, &format_args!("keeps no more partial replies of {call}"));
            self.processes[pid].machine.overflow(now, call);
        }
    }

    pub(super) fn take_end(&mut self, pid: Pid, call: CallId, end: &CallEnd) {
        match end {
            Ok(payload) => self.log(pid, &format_args!("has the reply of {call}: {:?}", Answer::read(payload))),
            Err(failure) => self.log(pid, &format_args!("learns that {call} has failed: {failure:?}")),
        }
        let Some(tag) = self.processes[pid].calls.remove(&call) else {
            return self.ledger.blame(format!("{call} ends, which is over already"));
        };
        let (now, at) = (self.local(pid), self.now);
        self.ledger.call_ended(pid, tag, now, at, end, &self.processes);
    }

    pub(super) fn start(&mut self, pid: Pid, start: &Start) {
        let (execution, call) = (start.execution, start.request.call);
        let Some(work) = Work::read(&start.request.payload) else {
            return self.ledger.blame(format!("an argument that nobody has sent: {:?}", start.request));
        };
        self.log(pid, &format_args!("starts execution {} of {call}, call {}", execution.0, work.tag.0));
        let job = Job { work, peer: start.peer, call, run: None, partials: 0, is_aborted: false };
        self.processes[pid].jobs.insert(execution, job);
        self.ledger.started(pid, &self.processes[pid], start);
        match work.delay.is_zero() {
            _ if !self.processes[pid].has_runtime => self.stop(pid, execution),
            true => self.begin(pid, execution),
            false => self.schedule(pid, execution, work.delay, Step::Begin),
        }
    }

    pub(super) fn work(&mut self, pid: Pid, incarnation: u32, execution: Execution, step: Step) {
        if !self.is_alive(pid, incarnation) {
            return;
        }
        if !self.processes[pid].is_running() {
            let event = Event::Job { process: pid, incarnation, execution, step };
            return self.processes[pid].inbox.push_back(event);
        }
        match step {
            Step::Begin => self.begin(pid, execution),
            Step::Partial => self.send_partial(pid, execution),
            Step::End => self.end(pid, execution, None),
        }
        self.drain_outputs(pid);
        self.touch(pid);
    }

    /// Handles a worker's request to stop the procedure. Most stop where they wait; blocking ones run on.
    pub(super) fn abort(&mut self, pid: Pid, execution: Execution) {
        let Some(job) = self.processes[pid].jobs.get_mut(&execution) else { return };
        job.is_aborted = true;
        let stops = job.run.is_none() || !job.work.is_stubborn;
        self.log(pid, &format_args!("is to stop execution {}", execution.0));
        if stops {
            self.stop(pid, execution);
        }
    }

    /// Ends a procedure where it is.
    pub(super) fn stop(&mut self, pid: Pid, execution: Execution) {
        let has_begun = self.processes[pid].jobs.get(&execution).is_some_and(|job| job.run.is_some());
        let finish = if has_begun { Finish::Aborted } else { Finish::NotStarted };
        self.end(pid, execution, Some(finish));
    }

    fn begin(&mut self, pid: Pid, execution: Execution) {
        let Process { setup, jobs, .. } = &mut self.processes[pid];
        let Some(job) = jobs.get_mut(&execution) else { return };
        let work = job.work;
        let run = self.ledger.run_begun(work.tag, pid, setup);
        job.run = Some(run);
        self.log(pid, &format_args!("runs execution {}: run {} of call {}", execution.0, run.0, work.tag.0));
        for number in 1..=work.partials {
            self.schedule(pid, execution, work.time * number / (work.partials + 1), Step::Partial);
        }
        self.schedule(pid, execution, work.time, Step::End);
    }

    fn schedule(&mut self, process: Pid, execution: Execution, time: std::time::Duration, step: Step) {
        let incarnation = self.processes[process].incarnation;
        self.post_after(time, Event::Job { process, incarnation, execution, step });
    }

    fn send_partial(&mut self, pid: Pid, execution: Execution) {
        let now = self.local(pid);
        let process = &mut self.processes[pid];
        let Some(Job { work, peer, run: Some(run), partials, .. }) = process.jobs.get_mut(&execution) else { return };
        let answer = Answer { tag: work.tag, run: *run, number: u64::from(*partials) };
        *partials += 1;
        let ballast = work.ballast.min(100);
        let mut payload = answer.payload(ballast);
        if let Some(wire) = process.sockets.get(&(door_of(process.setup.role), *peer)) {
            self.ledger.produced(pid, *wire, &mut payload);
        }
        let is_wanted = process.machine.partial(now, execution, payload);
        if is_wanted {
            self.ledger.partial_sent(answer.run);
        }
    }

    /// Ends a procedure: as planned, or as its worker has asked.
    fn end(&mut self, pid: Pid, execution: Execution, stopped: Option<Finish>) {
        let now = self.local(pid);
        let Some(job) = self.processes[pid].jobs.remove(&execution) else { return };
        let mut finish = stopped.unwrap_or_else(|| finish_of(&job));
        let process = &self.processes[pid];
        if let Some(wire) = process.sockets.get(&(door_of(process.setup.role), job.peer))
            && let Finish::Reply(payload) | Finish::Error { payload, .. } = &mut finish
        {
            self.ledger.produced(pid, *wire, payload);
        }
        self.log(pid, &format_args!("ends execution {}: {}", execution.0, brief(&finish)));
        self.ledger.run_ended(job.run, &finish);
        self.finish(pid, now, execution, finish);
    }

    fn finish(&mut self, pid: Pid, now: Instant, execution: Execution, finish: Finish) {
        self.processes[pid].machine.finish(now, execution, finish);
        self.touch(pid);
    }
}

fn finish_of(job: &Job) -> Finish {
    let Some(run) = job.run else { return Finish::NotStarted };
    let answer = Answer { tag: job.work.tag, run, number: job.partials.into() };
    // As long as the ballast of a reply, and no longer than the wire carries.
    let detail = "!".repeat(job.work.ballast.min(DETAIL_BYTES_MAX) as usize);
    match job.work.fate {
        Fate::Replies => Finish::Reply(answer.payload(job.work.ballast)),
        Fate::Fails => {
            let payload = answer.payload(0);
            Finish::Error { code: ErrorCode::Application, detail, payload }
        }
        Fate::Panics => Finish::Error { code: ErrorCode::Panicked, detail, payload: Payload::default() },
    }
}

/// The longest detail of an error on the wire.
const DETAIL_BYTES_MAX: u32 = 4_096;

fn brief(finish: &Finish) -> &'static str {
    match finish {
        Finish::Reply(_) => "a reply",
        Finish::Error { code: ErrorCode::Application, .. } => "an error of its own",
        Finish::Error { .. } => "a panic",
        Finish::Aborted => "stopped on the way",
        Finish::NotStarted => "never begun",
    }
}

fn spec_of(now: Instant, plan: &CallPlan) -> CallSpec {
    CallSpec {
        service: plan.service.into(),
        method: plan.method.into(),
        fingerprint: plan.fingerprint,
        idempotent: plan.idempotent,
        must_declare: false,
        wait_policy: if plan.fail_fast { WaitPolicy::Never } else { WaitPolicy::UntilDeadline },
        owner: 0,
        attempts_before: 0,
        deadline: now + plan.timeout,
        metadata: Metadata::new(),
        payload: plan.work.payload(plan.codec),
    }
}
