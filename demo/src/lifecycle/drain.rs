//! Asks a process to finish its calls, and waits for its end.

use std::time::{Duration, Instant};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::Answer;

/// Sends SIGTERM, and waits for the end, at most for the timeout.
pub(super) fn drain(pid: i32, timeout: Duration) -> Result<Answer, String> {
    let began = Instant::now();
    let failed = |error: Errno| format!("cannot stop process {pid}: {error}");
    let process = Pid::from_raw(pid).ok_or_else(|| format!("{pid} is no process"))?;
    // A handle of the process: after its end, another process may have its number.
    let process = pidfd_open(process, PidfdFlags::empty()).map_err(failed)?;
    pidfd_send_signal(&process, Signal::TERM).map_err(failed)?;
    let has_ended = wait(&process, timeout, began).map_err(|error| format!("waiting for process {pid}: {error}"))?;
    Ok(if has_ended { Answer::Yes } else { Answer::No(format!("process {pid} has not ended after {timeout:?}")) })
}

/// Whether it has ended in time.
fn wait(process: &OwnedFd, timeout: Duration, began: Instant) -> Result<bool, Errno> {
    loop {
        // A time that does not fit the kernel's type means for ever.
        let left = Timespec::try_from(timeout.saturating_sub(began.elapsed())).ok();
        match poll(&mut [PollFd::new(process, PollFlags::IN)], left.as_ref()) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
