//! Calls, the procedure runs that they cause, and how they end.

use std::time::Instant;

use xero::proto::{
    calls::{CallEnd, CallFailure},
    hold::HoldLimits,
    message::{CallId, ErrorCode, ErrorReply},
    worker::Finish,
};

use super::*;
use crate::{
    process::Process,
    scenario::{CallPlan, MIXED, RARE, Role, Setup, Temper},
    work::Answer,
};

/// One call.
#[derive(Debug)]
pub(super) struct CallRecord {
    pub(super) plan: CallPlan,
    pub(super) client: Life,
    pub(super) id: CallId,
    made_at: At,
    deadline_at: At,
    pub(super) state: CallState,
    runs: Vec<Run>,
    /// Whether every worker that has run it declares that it may run twice.
    is_declared: bool,
    /// The partial replies that the caller received, by their run.
    partials: Vec<(Run, u64)>,
    has_overflowed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallState {
    Open,
    /// The caller is gone, or has cancelled it.
    Unwanted,
    Succeeded,
    Failed {
        maybe_executed: bool,
    },
}

/// One run of a procedure.
#[derive(Debug)]
pub(super) struct RunRecord {
    tag: Tag,
    partials: u64,
    end: Option<RunEnd>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunEnd {
    Replied,
    Failed,
    Panicked,
    Stopped,
}

impl Ledger {
    pub(crate) fn call_made(
        &mut self,
        pid: Pid,
        client: &Process,
        id: CallId,
        plan: CallPlan,
        [made_at, deadline_at]: [At; 2],
    ) {
        let tag = plan.work.tag;
        let record = CallRecord {
            plan,
            client: (pid, client.incarnation),
            id,
            made_at,
            deadline_at,
            state: CallState::Open,
            runs: Vec::new(),
            is_declared: true,
            partials: Vec::new(),
            has_overflowed: false,
        };
        self.deadlines.insert((deadline_at, tag));
        self.unrouted.entry(pid).or_default().insert(Unrouted::Call(tag));
        self.calls.insert(tag, record);
    }

    pub(crate) fn call_cancelled(&mut self, tag: Tag) {
        self.close(tag, CallState::Unwanted);
    }

    pub(crate) fn plan_of(&mut self, tag: Tag) -> Option<CallPlan> {
        self.calls.get(&tag).map(|call| call.plan.clone())
    }

    /// Returns how many partial replies of this call have arrived.
    pub(crate) fn partial_received(&mut self, tag: Tag, answer: Option<Answer>) -> u32 {
        let Some(call) = self.calls.get_mut(&tag) else { return 0 };
        let Some(answer) = answer.filter(|answer| answer.tag == tag) else {
            self.blame(format!("a partial reply of another call reaches call {}: {answer:?}", tag.0));
            return 0;
        };
        let is_new = call.partials.iter().all(|(run, _)| *run != answer.run);
        match call.partials.last_mut() {
            Some((run, count)) if *run == answer.run && *count == answer.number => *count += 1,
            _ if answer.number == 0 && is_new => {
                call.partials.push((answer.run, 1));
            }
            _ => {
                let what = format!("call {} receives {answer:?} after {:?}", tag.0, call.partials);
                self.blame(what);
                return 0;
            }
        }
        let received = call.partials.iter().map(|(_, count)| *count).sum::<u64>();
        call.has_overflowed |= call.plan.partials_max.is_some_and(|max| received > max.into());
        u32::try_from(received).unwrap_or(u32::MAX)
    }

    pub(crate) fn run_begun(&mut self, tag: Tag, pid: Pid, worker: &Setup) -> Run {
        let run = Run(self.runs.len() as u64 + 1);
        self.runs.insert(run, RunRecord { tag, partials: 0, end: None });
        let Some(call) = self.calls.get_mut(&tag) else {
            if !tag.is_hostile() {
                self.blame(format!("process {pid} runs call {}, which nobody has made", tag.0));
            }
            return run;
        };
        call.runs.push(run);
        call.is_declared &= worker.declares(&call.plan);
        let complaint = match call.state {
            _ if call.runs.len() > 1 && !call.plan.idempotent.unwrap_or(call.is_declared) => {
                "runs again, and is not idempotent"
            }
            CallState::Failed { maybe_executed: false } => "runs after its caller has learned that it has not",
            _ => return run,
        };
        self.blame(format!("call {} {complaint}", tag.0));
        run
    }

    pub(crate) fn partial_sent(&mut self, run: Run) {
        if let Some(run) = self.runs.get_mut(&run) {
            run.partials += 1;
        }
    }

    pub(crate) fn run_ended(&mut self, run: Option<Run>, finish: &Finish) {
        if let Some(run) = run.and_then(|run| self.runs.get_mut(&run)) {
            run.end = Some(match finish {
                Finish::Reply(_) => RunEnd::Replied,
                Finish::Error { code: ErrorCode::Application, .. } => RunEnd::Failed,
                Finish::Error { .. } => RunEnd::Panicked,
                Finish::Aborted | Finish::NotStarted => RunEnd::Stopped,
            });
        }
    }

    pub(crate) fn call_ended(
        &mut self,
        pid: Pid,
        tag: Tag,
        now: Instant,
        at: At,
        end: &CallEnd,
        processes: &[Process],
    ) {
        let Some(call) = self.calls.get(&tag) else { return };
        let found = match end {
            Ok(payload) => self.judge_answer(tag, call, Answer::read(payload), RunEnd::Replied),
            Err(failure) => self.judge_failure(pid, tag, call, at, failure, processes),
        };
        let late = at > call.deadline_at.after(TICK) && !processes[pid].is_late;
        let found = found.and(if late { Err("ends after its deadline".to_owned()) } else { Ok(()) });
        if let Err(what) = found {
            let what = format!("call {} at {:?} {what}; it ended with {end:?}; {call:#?}", tag.0, now);
            self.blame(what);
        }
        let maybe_executed = end.as_ref().err().and_then(maybe_executed).unwrap_or(true);
        if end.is_err() && maybe_executed {
            self.suspects.insert((pid, tag));
        }
        let state = if end.is_ok() { CallState::Succeeded } else { CallState::Failed { maybe_executed } };
        self.close(tag, state);
    }

    fn judge_answer(&self, tag: Tag, call: &CallRecord, answer: Option<Answer>, end: RunEnd) -> Result<(), String> {
        let answer = answer.ok_or("is answered with what no procedure has written")?;
        let run = self.runs.get(&answer.run).ok_or("is answered by no run")?;
        if answer.tag != tag || run.tag != tag {
            return Err("receives another call's reply".to_owned());
        }
        if run.end != Some(end) {
            return Err(format!("is answered otherwise than its run has ended: {run:?}"));
        }
        let counted = call.partials.last().filter(|(run, _)| *run == answer.run).map_or(0, |(_, count)| *count);
        match counted == run.partials {
            true => Ok(()),
            false => Err(format!("has received {counted} partial replies of {run:?}")),
        }
    }

    fn judge_failure(
        &self,
        pid: Pid,
        tag: Tag,
        call: &CallRecord,
        at: At,
        failure: &CallFailure,
        processes: &[Process],
    ) -> Result<(), String> {
        match maybe_executed(failure) {
            Some(false) if !call.runs.is_empty() => {
                return Err("has run, and its caller learns that it has not".into());
            }
            _ => {}
        }
        let is_own = |error: &ErrorReply| matches!(error.code, ErrorCode::Application | ErrorCode::Panicked);
        let is_of_method = matches!(failure, CallFailure::Remote(error) if is_own(error));
        if self.temper == Temper::Gentle && !is_of_method {
            return Err("fails, and nothing has happened that explains it".to_owned());
        }
        match failure {
            CallFailure::Remote(error) => self.judge_remote(tag, call, error, processes),
            CallFailure::UnknownMethod { .. } if is_rare(&call.plan) => Ok(()),
            CallFailure::CodecNotRead { .. } if has_other_codec(&call.plan, processes) => Ok(()),
            CallFailure::TooLarge(_) if is_large(&call.plan, processes) => Ok(()),
            CallFailure::DeadlineExceeded { .. } => is_due(call, at),
            CallFailure::NoWorker { .. } if call.plan.fail_fast => Ok(()),
            CallFailure::NoWorker { .. } => is_due(call, at),
            CallFailure::WorkerLost { .. } => self.judge_loss(call),
            CallFailure::Overloaded { .. } if call.plan.fail_fast => Ok(()),
            CallFailure::Overloaded { .. } => {
                let (waiting, max) = (self.waiting_of(pid), processes[pid].setup.waiting_max);
                let is_full = waiting + self.attempted_of(pid) > max;
                if is_full { Ok(()) } else { Err(format!("is one too many, and {waiting} of {max} wait")) }
            }
            CallFailure::PartialsUnread { .. } if call.has_overflowed => Ok(()),
            CallFailure::Closed { .. } if processes[pid].is_leaving => Ok(()),
            _ => Err("fails for no reason that is in this network".to_owned()),
        }
    }

    fn judge_remote(
        &self,
        tag: Tag,
        call: &CallRecord,
        error: &ErrorReply,
        processes: &[Process],
    ) -> Result<(), String> {
        match error.code {
            ErrorCode::Application => self.judge_answer(tag, call, Answer::read(&error.payload), RunEnd::Failed),
            ErrorCode::Panicked => {
                let has =
                    call.runs.iter().any(|run| self.runs.get(run).is_some_and(|r| r.end == Some(RunEnd::Panicked)));
                if has { Ok(()) } else { Err("learns of a panic that has not been".to_owned()) }
            }
            // Leaving workers and brokers, brokers that lost their workers, and full queues.
            ErrorCode::Refused | ErrorCode::WorkerLost | ErrorCode::NoWorker | ErrorCode::Overloaded => Ok(()),
            ErrorCode::UnknownMethod if is_rare(&call.plan) => Ok(()),
            ErrorCode::SignatureMismatch if call.plan.method == RARE && call.plan.fingerprint != 0 => Ok(()),
            ErrorCode::InvalidArguments if has_other_codec(&call.plan, processes) => Ok(()),
            ErrorCode::TooLarge if is_large(&call.plan, processes) || is_limited(processes) => Ok(()),
            ErrorCode::Unread if is_limited(processes) => Ok(()),
            // A run is stopped between the caller's end of the call and its own.
            ErrorCode::Cancelled => Err("is cancelled, and its caller has not asked for it".to_owned()),
            _ => Err("fails for no reason that is in this network".to_owned()),
        }
    }

    /// A lost call needs a lost peer.
    fn judge_loss(&self, call: &CallRecord) -> Result<(), String> {
        let attempts = self.attempts.get(&(call.client, call.id)).map(Vec::as_slice).unwrap_or_default();
        let is_over = |attempt: &Attempt| self.is_over(attempt);
        // The last attempt may have ended otherwise, which does not hide that an earlier one may have run.
        match attempts.iter().any(is_over) {
            true => Ok(()),
            false => Err(format!("has lost its worker, and nobody is lost: {attempts:?}")),
        }
    }

    /// Checks that a call that may have run was sent: by the end of the turn in which its caller learned that, unless
    /// the connection was lost in the same turn.
    pub(super) fn check_suspects(&mut self, pid: Pid) -> Result<(), String> {
        let suspects = self.suspects.extract_if((pid, Tag(0)).., |(of, _)| *of == pid);
        let tags: Vec<_> = suspects.map(|(_, tag)| tag).collect();
        let is_unsent = |tag: &&Tag| self.calls.get(tag).is_some_and(|call| !self.has_been_sent(call));
        match tags.iter().find(is_unsent).filter(|_| !self.shaken.contains(&pid)) {
            Some(tag) => Err(format!("says that call {} may have run, and has never sent it", tag.0)),
            None => Ok(()),
        }
    }

    /// Whether a request of the call has left its client.
    fn has_been_sent(&self, call: &CallRecord) -> bool {
        let attempts = self.attempts.get(&(call.client, call.id));
        attempts.is_some_and(|attempts| attempts.iter().any(|attempt| !attempt.is_unsent))
    }

    pub(super) fn is_open_at(&self, tag: Tag, life: Life) -> bool {
        self.calls.get(&tag).is_some_and(|call| call.state == CallState::Open && call.client == life)
    }

    /// Calls that have not been forwarded yet.
    pub(super) fn waiting_of(&self, pid: Pid) -> usize {
        self.unrouted.get(&pid).map_or(0, BTreeSet::len)
    }

    /// Open calls with at least one attempt; if they wait, they wait for another.
    fn attempted_of(&self, pid: Pid) -> usize {
        let open = self.deadlines.iter().filter_map(|(_, tag)| self.calls.get(tag));
        open.filter(|call| call.client.0 == pid && self.attempts.contains_key(&(call.client, call.id))).count()
    }

    fn close(&mut self, tag: Tag, state: CallState) {
        let Some(call) = self.calls.get_mut(&tag) else { return };
        call.state = state;
        self.deadlines.remove(&(call.deadline_at, tag));
        if let Some(unrouted) = self.unrouted.get_mut(&call.client.0) {
            unrouted.remove(&Unrouted::Call(tag));
        }
    }

    pub(super) fn abandon_calls_of(&mut self, pid: Pid) {
        let open = self.calls.iter().filter(|(_, call)| call.client.0 == pid && call.state == CallState::Open);
        let tags: Vec<_> = open.map(|(tag, _)| *tag).collect();
        tags.into_iter().for_each(|tag| self.close(tag, CallState::Unwanted));
    }

    /// Timers that expired while the process did not run are due now.
    pub(crate) fn thawed(&mut self, now: At, pid: Pid) {
        for (tag, call) in self.calls.iter_mut().filter(|(_, call)| call.client.0 == pid) {
            if call.state == CallState::Open && call.deadline_at < now {
                self.deadlines.remove(&(call.deadline_at, *tag));
                call.deadline_at = now;
                self.deadlines.insert((now, *tag));
            }
        }
        // Its drain's end is due now too; how much of its time was lost is unknown.
        self.leaving.remove(&pid);
    }

    pub(crate) fn check_deadlines(&mut self, now: At, processes: &[Process]) {
        let overdue = self.deadlines.iter().take_while(|(at, _)| at.after(TICK) < now);
        let is_meant = |tag: &Tag| self.calls.get(tag).is_some_and(|call| is_prompt(&processes[call.client.0]));
        let found = overdue.map(|(_, tag)| *tag).find(is_meant);
        if let Some(tag) = found {
            let what = format!("call {} is past its deadline: {:#?}", tag.0, self.calls.get(&tag));
            self.blame(what);
        }
    }

    pub(crate) fn check_all_ended(&self) -> Result<(), String> {
        match self.deadlines.first() {
            Some((_, tag)) => Err(format!("call {} has not ended: {:#?}", tag.0, self.calls.get(tag))),
            None => Ok(()),
        }
    }

    pub(crate) fn check_probes(&self, from: u64) -> Result<(), String> {
        match self.calls.range(Tag(from)..).find(|(_, call)| call.state != CallState::Succeeded) {
            Some((tag, call)) => Err(format!("all is well, and call {} does not succeed: {call:#?}", tag.0)),
            None => Ok(()),
        }
    }
}

/// Whether the process looks at its timeouts.
fn is_prompt(process: &Process) -> bool {
    process.is_running() && !process.is_late
}

/// Whether some workers lack the method.
fn is_rare(plan: &CallPlan) -> bool {
    [MIXED, RARE].contains(&plan.method)
}

fn has_other_codec(plan: &CallPlan, processes: &[Process]) -> bool {
    let mut workers = processes.iter().filter(|process| process.setup.role == Role::Worker);
    workers.any(|process| !process.setup.codecs.contains(&plan.codec))
}

/// Whether somebody takes no argument or reply of this size.
fn is_large(plan: &CallPlan, processes: &[Process]) -> bool {
    let bytes = plan.work.payload_bytes();
    processes.iter().any(|process| (process.setup.payload_bytes_max as u64) < bytes)
}

/// Whether a process may have no room for a large reply, because its peer acknowledges nothing.
fn is_limited(processes: &[Process]) -> bool {
    processes.iter().any(|process| process.setup.hold_limits != HoldLimits::default())
}

/// Whether time is up, on a clock that may run slightly fast.
fn is_due(call: &CallRecord, at: At) -> Result<(), String> {
    let timeout = call.deadline_at.since(call.made_at);
    match at.since(call.made_at) + timeout / 20 >= timeout {
        true => Ok(()),
        false => Err(format!("ends for want of time, {:?} before its deadline", call.deadline_at.since(at))),
    }
}

/// Whether the failure says that the procedure may have run, if it says anything of it.
fn maybe_executed(failure: &CallFailure) -> Option<bool> {
    match failure {
        CallFailure::Remote(error) => Some(error.maybe_executed),
        CallFailure::DeadlineExceeded { maybe_executed }
        | CallFailure::WorkerLost { maybe_executed, .. }
        | CallFailure::Closed { maybe_executed } => Some(*maybe_executed),
        CallFailure::NoWorker { .. } | CallFailure::UnknownMethod { .. } | CallFailure::Overloaded { .. } => {
            Some(false)
        }
        CallFailure::TooLarge(_) | CallFailure::CodecNotRead { .. } => Some(false),
        CallFailure::NotOffered { maybe_executed, .. } => Some(*maybe_executed),
        _ => None,
    }
}
