//! Processes to kill, freeze and stop.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tokio::sync::watch;

use crate::scene::{PATIENCE, eventually};

/// Starts the package's own program `probe` with these arguments.
#[macro_export]
macro_rules! probe {
    ($($argument:expr),+ $(,)?) => {
        $crate::process::Process::start(env!("CARGO_BIN_EXE_probe"), &[$(&*$argument),+])
    };
}

/// A process, killed when dropped. If a test fails, its output is shown.
#[derive(Debug)]
pub struct Process {
    child: Child,
    said: watch::Receiver<String>,
}

impl Process {
    /// Starts a program.
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        Self::start_with(&[], program, arguments)
    }

    /// Starts a program with more variables in its environment.
    pub fn start_with(variables: &[(&str, &str)], program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(OsStr::new(program));
        command.envs(variables.iter().copied());
        // The program ends with its standard input, so it does not outlive a killed test.
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        let (sender, said) = watch::channel(String::new());
        keep(child.stdout.take().expect("it was piped"), sender.clone());
        keep(child.stderr.take().expect("it was piped"), sender);
        Self { child, said }
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        self.child.stdin = None;
    }

    /// Writes a line to its standard input.
    pub fn tell(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("its input is open");
        writeln!(input, "{line}").expect("it reads its input");
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until its output contains that.
    pub async fn says(&self, text: &str) {
        let mut said = self.said.clone();
        // Some programs say megabytes: each part is searched once.
        let mut searched = 0;
        let found = said.wait_for(|said| {
            let start = said.floor_char_boundary(usize::saturating_sub(searched, text.len()));
            searched = said.len();
            said[start..].contains(text)
        });
        let found = matches!(tokio::time::timeout(PATIENCE, found).await, Ok(Ok(_)));
        assert!(found, "the process has not said {text:?} but: {}", *self.said.borrow());
    }

    /// The rest of the first line that begins like this, once it is printed.
    pub async fn line(&self, start: &str) -> String {
        self.says(start).await;
        self.said.borrow().lines().find_map(|line| line.strip_prefix(start)).map(str::to_owned).expect("it was said")
    }

    /// The rest of the last line so far that begins like this.
    pub fn last_line(&self, start: &str) -> Option<String> {
        self.said.borrow().lines().rev().find_map(|line| line.strip_prefix(start)).map(str::to_owned)
    }

    /// How often its output contains that so far.
    pub fn count(&self, text: &str) -> usize {
        self.said.borrow().matches(text).count()
    }

    /// Kills it with a signal that it cannot handle.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Freezes it: it keeps its connections and does nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Unfreezes it.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Its exit status, if it has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Its output so far.
    pub fn said(&self) -> String {
        self.said.borrow().clone()
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process has ended", async || {
            status = self.status();
            status.is_some()
        })
        .await;
        status.expect("it has ended")
    }

    /// The number of its threads.
    pub fn threads(&self) -> usize {
        threads(self.id())
    }

    /// Its memory in use, in bytes.
    pub fn resident_bytes(&self) -> usize {
        resident_bytes(self.id()).expect("it runs")
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw).expect("a process has a number");
        kill_process(pid, signal).expect("it is our child");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("process {} has said:\n{}", self.child.id(), *self.said.borrow());
        }
    }
}

/// The number of a process's threads.
pub fn threads(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/task")).expect("it runs").count()
}

/// The number of a process's open files and sockets.
pub fn descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).expect("it runs").count()
}

/// The highest number of a process's open files and sockets.
pub fn descriptors_highest(process: u32) -> u64 {
    let numbers = fs::read_dir(format!("/proc/{process}/fd")).expect("it runs").flatten();
    numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).max().expect("it has a standard input")
}

/// A process's memory in use, in bytes; `None` if it has ended.
pub fn resident_bytes(process: u32) -> Option<usize> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kibibytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The CPU time of each of a process's threads so far, by their ids, with their names; empty if it has ended.
pub fn cpu_times(process: u32) -> BTreeMap<String, (String, Duration)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let time = |task: PathBuf| {
        let name = fs::read_to_string(task.join("comm")).ok()?.trim().to_owned();
        let nanos = fs::read_to_string(task.join("schedstat")).ok()?.split(' ').next()?.parse().ok()?;
        Some((name, Duration::from_nanos(nanos)))
    };
    // A thread that ends meanwhile has no time.
    tasks.filter_map(|task| Some((task.file_name().to_string_lossy().into_owned(), time(task.path())?))).collect()
}

/// Limits the numbers of a process's descriptors from now on; those that it has stay open. Returns the limit before.
pub fn limit_descriptors(process: u32, below: Option<u64>) -> Option<u64> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(pid, Resource::Nofile, Rlimit { current: below, maximum }).expect("it is our child").current
}

/// Whether all threads of this process with that name wait for something.
pub fn threads_wait(name: &str) -> bool {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux").flatten().map(|task| task.path());
    let mut own = tasks.filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name));
    // A thread that has ended meanwhile has no state.
    own.all(|task| {
        let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('S'))
    })
}

/// How long a killed probe may stay unnoticed.
pub const UNNOTICED: Duration = Duration::from_secs(5);

fn keep(output: impl Read + Send + 'static, said: watch::Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            said.send_modify(|said| {
                said.push_str(&line);
                said.push('\n');
            });
        }
    });
}
