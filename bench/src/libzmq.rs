//! The peer that is no Rust: libzmq, through a Python script that speaks the same lines as our own children.

use std::process::Stdio;

use tokio::process::Command;

use crate::{
    measure::Plan,
    mode::{Mode, name_of},
    peer::Part,
};

/// The versions of libzmq and pyzmq, or why there are none.
///
/// # Errors
/// When the interpreter does not start, or has no pyzmq.
pub async fn version(python: &str) -> Result<String, String> {
    let mut command = Command::new(python);
    command.args(["-c", "import zmq; print(zmq.zmq_version(), 'pyzmq', zmq.__version__)"]).stdin(Stdio::null());
    match command.output().await {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        Ok(_) => Err(format!("skipped: {python} has no module zmq")),
        Err(error) => Err(format!("skipped: {python} does not start: {error}")),
    }
}

/// The command of a child.
pub(crate) fn command(plan: &Plan, mode: Mode, part: Part, cpus: &str, endpoint: &str) -> Command {
    let [in_flight, workers, bytes] =
        [mode.in_flight(), mode.workers(), mode.payload_bytes()].map(|number| number.to_string());
    let mut command = Command::new(&plan.python);
    command.args(["-c", include_str!("../libzmq.py"), &name_of(part), cpus, endpoint]);
    command.args([in_flight, workers, bytes, plan.warm_up.to_string(), plan.seconds.to_string()]);
    command
}
