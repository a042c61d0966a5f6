//! A measurement's processes: started, talked to, and killed when they are dropped.

use std::{io, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

use crate::{load::Failure, peer::Part};

/// The processes of one measurement.
#[derive(Debug, Default)]
pub struct Processes(Vec<Process>);

/// A process and the ends of its pipes.
#[derive(Debug)]
pub struct Process {
    part: Part,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    errors: Option<JoinHandle<String>>,
}

impl Processes {
    /// Starts another process.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(&mut self, part: Part, mut command: Command) -> io::Result<()> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // In a group of its own: ctrl-c reaches the parent alone, which then ends its children.
        command.kill_on_drop(true).process_group(0).env("RUST_BACKTRACE", "0");
        let mut child = command.spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (stdin, Some(stdout), Some(mut stderr)) = pipes else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let errors = tokio::spawn(async move {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text).await;
            reason(&String::from_utf8_lossy(&text))
        });
        let lines = BufReader::new(stdout).lines();
        self.0.push(Process { part, child, stdin, lines, errors: Some(errors) });
        Ok(())
    }

    /// The next line that a part prints.
    ///
    /// # Errors
    /// When any of the processes ends before.
    pub async fn line(&mut self, part: Part) -> Result<String, Failure> {
        loop {
            // The wait is cut into pieces to see whether another process has ended.
            if let Ok(line) = timeout(LOOK_AROUND, self.part(part)?.lines.next_line()).await {
                match line? {
                    Some(line) => return Ok(line),
                    None => return Err(self.part(part)?.end().await),
                }
            }
            for process in &mut self.0 {
                if process.child.try_wait()?.is_some() {
                    return Err(process.end().await);
                }
            }
        }
    }

    /// Writes a line to a part.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn say(&mut self, part: Part, line: &str) -> Result<(), Failure> {
        let stdin = self.part(part)?.stdin.as_mut().ok_or("its input is closed")?;
        Ok(stdin.write_all(format!("{line}\n").as_bytes()).await?)
    }

    /// Each process's part and id.
    pub fn ids(&self) -> impl Iterator<Item = (Part, u32)> {
        self.0.iter().filter_map(|process| Some((process.part, process.child.id()?)))
    }

    /// Kills all, and waits until they are gone, so that none disturbs the next measurement.
    pub async fn end(mut self) {
        for process in &mut self.0 {
            let _ = process.child.kill().await;
        }
    }

    fn part(&mut self, part: Part) -> io::Result<&mut Process> {
        self.0.iter_mut().find(|process| process.part == part).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Process {
    /// Why the process has ended.
    async fn end(&mut self) -> Failure {
        // By its own words, unless something else keeps its end of the pipe open.
        let said = match self.errors.take() {
            Some(errors) => timeout(LOOK_AROUND, errors).await.ok().and_then(Result::ok).unwrap_or_default(),
            None => String::new(),
        };
        let part = crate::mode::name_of(self.part);
        match self.child.wait().await {
            Ok(status) if said.is_empty() => format!("{part}: {status}").into(),
            Ok(_) => format!("{part}: {said}").into(),
            Err(error) => format!("{part}: {error}").into(),
        }
    }
}

/// How often a wait for one process looks at the others.
const LOOK_AROUND: Duration = Duration::from_millis(250);

/// The line of a process's errors that names the reason: the last one, be it a sentence, a panic's or Python's.
fn reason(errors: &str) -> String {
    let mut lines = errors.lines().rev().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("note: "));
    lines.next().unwrap_or_default().chars().take(REASON_MAX).collect()
}

/// Most characters of a reason, so that a table stays readable.
const REASON_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn process_that_fails_is_an_error_with_its_own_words() {
        let mut processes = Processes::default();
        processes.start(Part::Server, shell("echo 'no such port' >&2; exit 3")).expect("starts");
        let failure = processes.line(Part::Server).await.expect_err("prints nothing");
        assert_eq!(failure.to_string(), "server: no such port");
    }

    #[tokio::test]
    async fn waiting_for_one_process_notices_the_end_of_another() {
        let mut processes = Processes::default();
        processes.start(Part::Client, shell("read line")).expect("starts");
        processes.start(Part::Server, shell("exit 3")).expect("starts");
        let failure = processes.line(Part::Client).await.expect_err("prints nothing");
        assert_eq!(failure.to_string(), "server: exit status: 3");
    }

    #[tokio::test]
    async fn lines_go_both_ways() {
        let mut processes = Processes::default();
        processes.start(Part::Client, shell("read line; echo \"got $line\"; read line")).expect("starts");
        processes.say(Part::Client, "go").await.expect("listens");
        assert_eq!(processes.line(Part::Client).await.expect("answers"), "got go");
        let (_, pid) = processes.ids().next().expect("an id");
        processes.end().await;
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn reason_is_the_last_line_that_says_something() {
        assert_eq!(reason("thread 'main' panicked at a.rs:1:\nit broke\nnote: run with…\n"), "it broke");
        assert_eq!(reason("Traceback:\n  File x\nOSError: in use\n\n"), "OSError: in use");
        assert_eq!(reason(""), "");
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }
}
