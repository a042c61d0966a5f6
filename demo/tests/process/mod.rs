//! Processes of the demo under test: started, watched, signalled, and gone when the test is.
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use xero_demo::signals::IMPATIENT_AFTER;

/// Far more than any command takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The result of a process.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Every line of standard output, each of which must be a JSON object.
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        let lines = self.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{self:?}")));
        lines.inspect(|value: &serde_json::Value| assert!(value.is_object(), "{self:?}")).collect()
    }
}

/// A running command; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdout: Output,
    stderr: Output,
}

impl Process {
    pub(crate) fn start(command: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(executable(command))
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command} {arguments:?}: {error}"));
        let stdout = Output::read(child.stdout.take().unwrap());
        let stderr = Output::read(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// The first line of standard output.
    pub(crate) fn first_stdout_line(&mut self) -> String {
        let text = self.stdout.wait_until(|text| text.contains('\n'));
        text.lines().next().unwrap_or_default().to_owned()
    }

    pub(crate) fn wait_for_stdout(&mut self, part: &str) {
        self.stdout.wait_until(|text| text.contains(part));
    }

    pub(crate) fn wait_for_stderr(&mut self, part: &str) {
        self.stderr.wait_until(|text| text.contains(part));
    }

    /// Stops reading standard output, as `head` does.
    pub(crate) fn close_stdout(&mut self) {
        self.stdout.close();
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&mut self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid()]).status().unwrap();
        assert!(status.success(), "kill -s {name}: {status}");
    }

    /// Sends two signals one right after the other. They differ, so that the system does not merge them.
    pub(crate) fn signal_twice(&mut self) {
        let commands = format!("kill -s TERM {0}; kill -s INT {0}", self.child.id());
        let status = Command::new("sh").args(["-c", &commands]).status().unwrap();
        assert!(status.success(), "{commands}: {status}");
    }

    /// Sends a second signal, as an impatient user does.
    pub(crate) fn signal_impatiently(&mut self, name: &str) {
        // Only the time counts here; the process has received the first signal by now.
        thread::sleep(IMPATIENT_AFTER);
        self.signal(name);
    }

    /// Sends the signal that cannot be handled.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn wait(&mut self) -> Run {
        self.wait_timed().0
    }

    /// Waits for the end; returns how long that took.
    pub(crate) fn wait_timed(&mut self) -> (Run, Duration) {
        let began = Instant::now();
        // Its end is also the end of its output, and waiting for that has a time limit.
        let stderr = self.stderr.wait_for_end();
        let stdout = self.stdout.wait_for_end();
        let status = self.child.wait().unwrap();
        (Run { code: status.code().unwrap_or(-1), stdout, stderr }, began.elapsed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `demo-worker` that is serving.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) process: Process,
    pub(crate) endpoint: String,
    pub(crate) id: String,
}

impl Worker {
    /// Starts a worker for the endpoint; returns when it reports that it serves.
    pub(crate) fn start(endpoint: &str, further_arguments: &[&str]) -> Self {
        let mut process = Process::start("demo-worker", &[&[endpoint], further_arguments].concat());
        let line = process.first_stdout_line();
        let words: Vec<_> = line.split(' ').collect();
        let ["worker", id, "serves", "Demo,", "connecting", "to", ..] = words[..] else { panic!("{line}") };
        Self { process, endpoint: endpoint.to_owned(), id: id.to_owned() }
    }

    /// Runs a client at the worker's endpoint to its end.
    pub(crate) fn call(&self, arguments: &[&str]) -> Run {
        self.start_call(arguments).wait()
    }

    /// Starts a client at the worker's endpoint. It waits long for the worker, unless the arguments say otherwise.
    pub(crate) fn start_call(&self, arguments: &[&str]) -> Process {
        let wait = if arguments.contains(&"--wait") { &[][..] } else { &["--wait", "30"] };
        start_client(&[&[self.endpoint.as_str()], arguments, wait].concat())
    }
}

/// A `demo-broker` that is serving.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) process: Process,
    pub(crate) frontend: String,
    pub(crate) backend: String,
}

impl Broker {
    /// Starts a broker on free ports.
    pub(crate) fn start() -> Self {
        Self::bind("tcp://127.0.0.1:0", "tcp://127.0.0.1:0")
    }

    /// Starts a broker; returns when it has printed its endpoints.
    pub(crate) fn bind(frontend: &str, backend: &str) -> Self {
        let mut process = Process::start("demo-broker", &[frontend, backend]);
        let line = process.first_stdout_line();
        let words: Vec<_> = line.split(' ').collect();
        let ["broker", _, "between", "clients", "at", frontend, "and", "workers", "at", backend] = words[..] else {
            panic!("{line}")
        };
        Self { process, frontend: frontend.to_owned(), backend: backend.to_owned() }
    }

    /// Starts a worker for it.
    pub(crate) fn worker(&self) -> Worker {
        Worker::start(&self.backend, &[])
    }

    /// Runs a client of it to its end. It waits long for a worker, unless the arguments say otherwise.
    pub(crate) fn call(&self, arguments: &[&str]) -> Run {
        self.start_call(arguments).wait()
    }

    /// Starts a client of it.
    pub(crate) fn start_call(&self, arguments: &[&str]) -> Process {
        connect(&self.frontend, arguments)
    }
}

/// Starts a client that connects to these brokers. It waits long for a worker, unless the arguments say otherwise.
pub(crate) fn connect(endpoints: &str, arguments: &[&str]) -> Process {
    let wait = if arguments.contains(&"--wait") { &[][..] } else { &["--wait", "30"] };
    start_client(&[&["--connect", endpoints], arguments, wait].concat())
}

pub(crate) fn start_client(arguments: &[&str]) -> Process {
    Process::start("demo-client", arguments)
}

/// Runs a client to its end.
pub(crate) fn client(arguments: &[&str]) -> Run {
    start_client(arguments).wait()
}

/// An endpoint that no other process uses. Its client is started later, so the system cannot choose the port; on Linux
/// it has a loopback address of its own, so that no other process gets the port meanwhile.
pub(crate) fn free_endpoint() -> String {
    static ENDPOINTS: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let last = ENDPOINTS.fetch_add(1, Ordering::Relaxed);
    let address = if cfg!(target_os = "linux") { [127, high | 1, low, last] } else { [127, 0, 0, 1] };
    let address = Ipv4Addr::from(address);
    format!("tcp://{address}:{}", free_port(address))
}

pub(crate) fn free_port(address: Ipv4Addr) -> u16 {
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port()
}

/// The processes that a tour has named.
pub(crate) fn pids_in(story: &str) -> Vec<u32> {
    let named = story.split("(process ").skip(1).filter_map(|text| text.split(')').next()?.parse().ok());
    let mut pids: Vec<_> = named.collect();
    pids.sort_unstable();
    pids.dedup();
    assert!(pids.len() >= 3, "{story}");
    pids
}

/// Waits until all of the processes are gone.
pub(crate) fn assert_gone(pids: &[u32]) {
    let give_up_at = Instant::now() + PATIENCE;
    // Its parent is gone too, so without a new parent a process may stay a zombie.
    let is_there = |pid: &u32| {
        let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
        status.is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
    };
    while let Some(pid) = pids.iter().find(|pid| is_there(pid)) {
        assert!(Instant::now() < give_up_at, "process {pid} is still there");
        thread::yield_now();
    }
}

/// What a process writes, read as it comes.
#[derive(Debug)]
struct Output {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    written: Mutex<Written>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Written {
    text: String,
    ended: bool,
    unwanted: bool,
}

impl Output {
    fn read(pipe: impl std::io::Read + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        let reader = thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = String::new();
            while matches!(pipe.read_line(&mut line), Ok(length) if length > 0) {
                let mut written = writer.written.lock().unwrap();
                if written.unwanted {
                    break;
                }
                written.text.push_str(&line);
                writer.changed.notify_all();
                line.clear();
            }
            writer.written.lock().unwrap().ended = true;
            writer.changed.notify_all();
        });
        Self { shared, reader: Some(reader) }
    }

    fn wait_until(&self, holds: impl Fn(&str) -> bool) -> String {
        let written = self.shared.written.lock().unwrap();
        let waiting = |written: &mut Written| !written.ended && !holds(&written.text);
        let (written, timeout) = self.shared.changed.wait_timeout_while(written, PATIENCE, waiting).unwrap();
        assert!(!timeout.timed_out() && holds(&written.text), "it wrote {:?}", written.text);
        written.text.clone()
    }

    fn wait_for_end(&self) -> String {
        let written = self.shared.written.lock().unwrap();
        let waiting = |written: &mut Written| !written.ended;
        let (written, timeout) = self.shared.changed.wait_timeout_while(written, PATIENCE, waiting).unwrap();
        assert!(!timeout.timed_out(), "it goes on; it wrote {:?}", written.text);
        written.text.clone()
    }

    /// Closes the pipe's reading end, at the next line.
    fn close(&mut self) {
        self.shared.written.lock().unwrap().unwanted = true;
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }
}

fn executable(command: &str) -> &'static str {
    let executables = BTreeMap::from([
        ("xero-demo", env!("CARGO_BIN_EXE_xero-demo")),
        ("demo-worker", env!("CARGO_BIN_EXE_demo-worker")),
        ("demo-broker", env!("CARGO_BIN_EXE_demo-broker")),
        ("demo-client", env!("CARGO_BIN_EXE_demo-client")),
        ("demo-lifecycle", env!("CARGO_BIN_EXE_demo-lifecycle")),
    ]);
    executables[command]
}
