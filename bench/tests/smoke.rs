//! The program measures every peer in every mode, and leaves no process behind.

use std::{
    collections::BTreeSet,
    env, fs,
    path::PathBuf,
    process::{self, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use xero_bench::{mode::Mode, peer::Peer, record::Record};

#[test]
fn every_peer_is_measured_in_every_mode_that_it_supports() {
    let folder = Folder::new("every");
    let output = bench(&folder, &["--rounds", "1", "--seconds", "0.05", "--warm-up", "0.05"]).output().expect("runs");
    assert!(output.status.success(), "{output:?}");
    let records = folder.records();
    for mode in Mode::value_variants() {
        for peer in Peer::value_variants().iter().filter(|peer| peer.supports(*mode)) {
            let of_peer = records.iter().filter(|record| record.case.peer == *peer && record.case.mode == *mode);
            let count = of_peer.inspect(|record| assert_measured(record, &output)).count();
            assert_eq!(count, if peer.has_runtime() { 2 } else { 1 }, "{peer:?}, {mode:?}");
        }
        for file in [format!("{}.svg", mode.name()), format!("{}-cpu.svg", mode.name())] {
            assert!(fs::read_to_string(folder.0.join(&file)).expect("is there").ends_with("</svg>\n"), "{file}");
        }
    }
    let tables = fs::read_to_string(folder.0.join("tables.md")).expect("is there");
    assert_eq!(String::from_utf8_lossy(&output.stdout), tables);
    assert!(tables.contains("### Targets"), "{tables}");
}

#[test]
fn peer_that_does_not_start_is_a_row_with_its_reason() {
    let folder = Folder::new("reason");
    let arguments = ["--rounds", "2", "--seconds", "0.05", "--modes", "workers", "--peers", "libzmq"];
    let output = bench(&folder, &arguments).args(["--python", "/nowhere/python"]).output().expect("runs");
    assert!(output.status.success(), "{output:?}");
    let records = folder.records();
    assert_eq!(records.len(), 2);
    let reason = "skipped: /nowhere/python does not start";
    assert!(records.iter().all(|record| record.error().is_some_and(|error| error.starts_with(reason))), "{records:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains(reason), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(reason), "{output:?}");
}

#[test]
fn interrupted_run_reports_what_it_has_and_kills_its_children() {
    let folder = Folder::new("interrupted");
    let arguments = ["--rounds", "1", "--seconds", "0.3", "--modes", "bytes", "--peers", "bare,xero-brokered"];
    let mut command = bench(&folder, &arguments);
    let mut run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let children = until(|| Some(children_of(run.id())).filter(|children| children.len() == 3));
    assert!(kill("INT", run.id()));
    run.wait().expect("ends");
    let output = run.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("| bare | multi-thread |"), "{output:?}");
    until(|| children.iter().all(|child| !is_running(*child)).then_some(()));
}

#[test]
fn children_of_a_killed_run_end_by_themselves() {
    let folder = Folder::new("killed");
    let arguments = ["--rounds", "1", "--seconds", "60", "--modes", "in-flight-64", "--peers", "xero-brokered"];
    let mut command = bench(&folder, &arguments);
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    let children = until(|| Some(children_of(run.id())).filter(|children| children.len() == 3));
    run.kill().expect("is killed");
    run.wait().expect("ends");
    until(|| children.iter().all(|child| !is_running(*child)).then_some(()));
}

/// A folder of its own for a test's results.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Self(env::temp_dir().join(format!("xero-bench-{name}-{}", process::id())))
    }

    /// All records, which follow the machine's description.
    fn records(&self) -> Vec<Record> {
        let text = fs::read_to_string(self.0.join("results.jsonl")).expect("is there");
        let mut lines = text.lines();
        assert!(lines.next().expect("a first line").starts_with("{\"machine\":"), "{text}");
        lines.map(|line| serde_json::from_str(line).expect("a record")).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bench(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xero-bench"));
    command.args(arguments).arg("--output").arg(&folder.0);
    command
}

/// A record has figures; libzmq may be missing.
fn assert_measured(record: &Record, output: &Output) {
    match record.figures() {
        Some(figures) => {
            assert!(figures.report.calls > 0 && figures.report.seconds > 0.0, "{record:?}");
            assert_eq!(figures.report.p50_us.is_some(), record.case.mode.is_sequential(), "{record:?}");
            assert_eq!(figures.processes.len(), record.case.peer.parts().len(), "{record:?}");
            assert!(figures.processes.values().all(|usage| usage.resident_kib > 0), "{record:?}");
        }
        None => {
            assert!(record.error().is_some_and(|error| error.starts_with("skipped: ")), "{record:?} of {output:?}");
            assert_eq!(record.case.peer, Peer::Libzmq, "{record:?}");
        }
    }
}

/// What the question finds, asked again for a while.
fn until<T>(mut question: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "never");
        thread::sleep(Duration::from_millis(5));
    }
}

fn children_of(parent: u32) -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").expect("a folder").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| stat(*id).is_some_and(|(_, of)| of == parent)).collect()
}

fn is_running(id: u32) -> bool {
    stat(id).is_some_and(|(state, _)| state != "Z")
}

/// A process's state and its parent.
fn stat(id: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn kill(signal: &str, id: u32) -> bool {
    let status = Command::new("sh").args(["-c", &format!("kill -{signal} {id}")]).status();
    status.is_ok_and(|status| status.success())
}
