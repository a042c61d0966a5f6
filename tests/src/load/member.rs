//! Processes that are killed, frozen, asked to leave, and restarted.

use std::{process::ExitStatus, time::Duration};

use super::{
    figures::{Memory, Sample},
    role::{STARTED, WORKERS},
};
use crate::process::{Process, resident_bytes};

/// One place in the crew and the process that fills it, one after another.
#[derive(Debug)]
pub struct Member {
    /// Its name in logs.
    pub name: String,
    program: String,
    arguments: Vec<String>,
    process: Process,
    condition: Condition,
    /// The number of its last report of workers when it was thawed.
    listed_frozen: u64,
}

/// The last action on a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It was started or thawed, and nothing else.
    Running,
    /// It is frozen.
    Frozen,
    /// It was asked to leave.
    Leaving,
    /// It has ended, as it should.
    Ended,
}

impl Member {
    /// Starts a program in a role, with the role's arguments.
    pub fn start(name: String, program: &str, arguments: Vec<String>) -> Self {
        let process = launch(program, &arguments);
        Self { name, program: program.to_owned(), arguments, process, condition: Condition::Running, listed_frozen: 0 }
    }

    /// Restarts it after its end.
    pub fn restart(&mut self) {
        assert_eq!(self.condition, Condition::Ended, "{} is still there", self.name);
        self.process = launch(&self.program, &self.arguments);
        self.condition = Condition::Running;
        self.listed_frozen = 0;
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.kill();
        self.condition = Condition::Ended;
    }

    /// Freezes it.
    pub fn freeze(&mut self) {
        self.process.freeze();
        self.condition = Condition::Frozen;
    }

    /// Unfreezes it.
    pub fn thaw(&mut self) {
        self.listed_frozen = self.listed().map_or(0, |(sequence, _)| sequence);
        self.process.thaw();
        self.condition = Condition::Running;
    }

    /// Asks it to leave.
    pub fn terminate(&mut self) {
        self.process.terminate();
        self.condition = Condition::Leaving;
    }

    /// Whether it has left, after it was asked to.
    ///
    /// # Errors
    /// When it has ended in another way than it should.
    pub fn has_left(&mut self) -> Result<bool, String> {
        let Some(status) = self.process.status() else { return Ok(false) };
        self.condition = Condition::Ended;
        match status.success() {
            true => Ok(true),
            false => Err(self.obituary(status)),
        }
    }

    /// The error if it has ended without being killed or asked to leave.
    pub fn death(&mut self) -> Option<String> {
        if !matches!(self.condition, Condition::Running | Condition::Frozen) {
            return None;
        }
        let status = self.process.status()?;
        self.condition = Condition::Ended;
        Some(self.obituary(status))
    }

    /// The last action on it.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The id of this life, once reported.
    pub fn id(&self) -> Option<String> {
        self.process.last_line(STARTED)
    }

    /// Whether a broker has that worker, according to its reports since it was started or thawed.
    pub fn has(&self, worker: &str) -> bool {
        // One line may have been on its way when it was thawed.
        let fresh = self.listed().filter(|(sequence, _)| *sequence > self.listed_frozen + 1);
        fresh.is_some_and(|(_, ids)| ids.split(' ').any(|id| id == worker))
    }

    fn listed(&self) -> Option<(u64, String)> {
        let line = self.process.last_line(WORKERS)?;
        let (sequence, ids) = line.split_once(' ')?;
        Some((sequence.parse().ok()?, ids.to_owned()))
    }

    /// Samples its memory.
    pub fn sample(&self, at: Duration, memory: &mut Memory) {
        let id = self.process.id();
        if self.condition != Condition::Ended
            && let Some(bytes) = resident_bytes(id)
        {
            memory.add(&self.name, id, Sample { at, bytes });
        }
    }

    fn obituary(&self, status: ExitStatus) -> String {
        let Self { name, process, .. } = self;
        format!("{name}, process {}, has died with {status}, having said: {}", process.id(), process.said())
    }
}

fn launch(program: &str, arguments: &[String]) -> Process {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    Process::start(program, &arguments)
}
