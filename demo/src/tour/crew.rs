//! Workers as processes of their own, none of which outlives the tour.

use std::{env, path::PathBuf, process::Stdio, time::Duration};

use tokio::process::{Child, Command};

use super::Outcome;

/// The running workers.
///
/// They always end with it: dropping it kills them. If this process dies without a drop, their standard input ends, and
/// they stop by themselves.
#[derive(Debug)]
pub(super) struct Crew {
    executable: PathBuf,
    endpoint: String,
    started: usize,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    name: String,
    pid: u32,
    process: Child,
}

impl Crew {
    pub(super) fn new(endpoint: &str) -> Outcome<Self> {
        Ok(Self { executable: env::current_exe()?, endpoint: endpoint.to_owned(), started: 0, members: Vec::new() })
    }

    /// Starts one more worker; returns its name.
    pub(super) fn start(&mut self) -> Outcome<String> {
        // This program is the worker too, because `cargo run` has built nothing else.
        let mut command = Command::new(&self.executable);
        command.args(["worker", "--until-stdin-ends", &self.endpoint]).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(self.diagnostics());
        let process = command.spawn().map_err(|error| format!("a worker cannot be started: {error}"))?;
        let pid = process.id().ok_or("a worker ended at once")?;
        self.started += 1;
        let name = format!("worker {} (process {pid})", self.started);
        self.members.push(Member { name: name.clone(), pid, process });
        Ok(name)
    }

    /// Kills a worker with a signal that it cannot handle.
    pub(super) async fn kill(&mut self, pid: u32) -> Outcome {
        let mut member = self.remove(pid)?;
        Ok(member.process.kill().await?)
    }

    /// Asks a worker to finish its calls and stop, and waits until it has.
    pub(super) async fn stop(&mut self, pid: u32) -> Outcome {
        self.remove(pid)?.stop().await
    }

    /// Asks all workers to stop, and waits until they have.
    pub(super) async fn stop_all(&mut self) -> Outcome {
        // All get the signal before the first wait.
        self.members.iter_mut().for_each(Member::tell_to_stop);
        for member in self.members.drain(..) {
            member.stop().await?;
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn name(&self, pid: u32) -> String {
        let member = self.members.iter().find(|member| member.pid == pid);
        member.map_or_else(|| format!("a stranger (process {pid})"), |member| member.name.clone())
    }

    fn remove(&mut self, pid: u32) -> Outcome<Member> {
        let index = self.members.iter().position(|member| member.pid == pid);
        Ok(self.members.remove(index.ok_or_else(|| format!("process {pid} is not one of the tour's workers"))?))
    }

    /// Shows the workers' logs to users who ask for them.
    fn diagnostics(&self) -> Stdio {
        if env::var_os("RUST_LOG").is_some() { Stdio::inherit() } else { Stdio::null() }
    }
}

impl Member {
    fn tell_to_stop(&mut self) {
        drop(self.process.stdin.take());
    }

    async fn stop(mut self) -> Outcome {
        self.tell_to_stop();
        let status = tokio::time::timeout(STOP_MAX, self.process.wait()).await;
        let status = status.map_err(|_| format!("{} does not stop", self.name))??;
        match status.success() {
            true => Ok(()),
            false => Err(format!("{} ended with {status}", self.name).into()),
        }
    }
}

/// A worker without calls stops within a second; this is for a machine that is busy with something else.
const STOP_MAX: Duration = Duration::from_secs(10);
