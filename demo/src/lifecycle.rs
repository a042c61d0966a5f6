//! `demo-lifecycle`: answers an orchestrator's questions about a container without a shell.
//!
//! The probes read the kernel's tables instead of connecting. A connection that speaks no ZeroMQ would be refused and
//! logged, once for every probe.

use std::{num::NonZeroU16, process::ExitCode, time::Duration};

use clap::Subcommand;

use crate::{client::seconds, report::complain, whole, worker::USAGE};

#[cfg(target_os = "linux")]
mod drain;
#[cfg(target_os = "linux")]
mod sockets;

/// The command line of `demo-lifecycle`.
#[derive(Clone, Debug, Subcommand)]
pub enum LifecycleOptions {
    /// Whether something in this container listens on each of these TCP ports
    Listening {
        /// Ports from 1 to 65535
        #[arg(value_name = "PORT", required = true, value_parser = port)]
        ports: Vec<NonZeroU16>,
    },
    /// Whether this container has a TCP connection to this port of a peer, as a worker has to its broker
    Connected {
        /// A port from 1 to 65535
        #[arg(value_name = "PORT", value_parser = port)]
        port: NonZeroU16,
    },
    /// Stop a process (SIGTERM): it finishes running calls; wait until it has ended
    Drain {
        /// The process; a container's first is the program that it runs
        #[arg(long, value_name = "PID", default_value_t = 1, value_parser = process)]
        pid: i32,
        /// Time that it has: more than its drain may take, which is 30 s
        #[arg(long, value_name = "SECONDS", default_value = "35", allow_negative_numbers = true, value_parser = seconds)]
        timeout: Duration,
    },
}

/// The rest of the help.
pub const HELP: &str = "\
Exit codes:
    0  yes; or the process has ended
    1  no; or the process is still there after its time
    2  the command line was wrong, or the question cannot be asked: no such process, no permission, not Linux
  137  the process was the container's first, whose end has ended the container and this program with it

Examples, as probes of a broker and a worker, and as what a container runs before it is stopped:
    demo-lifecycle listening 5560 5561
    demo-lifecycle connected 5561
    demo-lifecycle drain --timeout 60";

fn port(text: &str) -> Result<NonZeroU16, String> {
    whole::<u16>(text, 1..=u16::MAX.into())
        .and_then(|port| NonZeroU16::try_from(port).map_err(|error| error.to_string()))
}

fn process(text: &str) -> Result<i32, String> {
    whole(text, 1..=i32::MAX as u64)
}

/// Answers by its exit code, and for a no also with one line on standard error.
pub fn answer(options: &LifecycleOptions) -> ExitCode {
    match ask(options) {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No(why)) => {
            complain(&why);
            ExitCode::FAILURE
        }
        Err(why) => {
            complain(&why);
            ExitCode::from(USAGE)
        }
    }
}

#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "other systems get an error"))]
enum Answer {
    Yes,
    No(String),
}

#[cfg(target_os = "linux")]
fn ask(options: &LifecycleOptions) -> Result<Answer, String> {
    match options {
        LifecycleOptions::Listening { ports } => listening(ports),
        LifecycleOptions::Connected { port } => connected(*port),
        LifecycleOptions::Drain { pid, timeout } => drain::drain(*pid, *timeout),
    }
}

#[cfg(not(target_os = "linux"))]
fn ask(_: &LifecycleOptions) -> Result<Answer, String> {
    Err("this needs Linux: it reads /proc and uses process handles".to_owned())
}

#[cfg(target_os = "linux")]
fn listening(ports: &[NonZeroU16]) -> Result<Answer, String> {
    let mut missing = ports.to_vec();
    sockets::visit(|socket| missing.retain(|port| !socket.listens_on(port.get())))?;
    Ok(match missing.first() {
        None => Answer::Yes,
        Some(port) => Answer::No(format!("nothing listens on port {port}")),
    })
}

#[cfg(target_os = "linux")]
fn connected(port: NonZeroU16) -> Result<Answer, String> {
    let mut is_connected = false;
    sockets::visit(|socket| is_connected |= socket.is_connected_to(port.get()))?;
    Ok(if is_connected { Answer::Yes } else { Answer::No(format!("no connection to a peer's port {port}")) })
}
