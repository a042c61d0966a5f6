//! What a process uses, as the system counts it under `/proc`.

use std::{fs, io, time::Duration};

use rustix::param::clock_ticks_per_second;

/// CPU time of a process so far, user and system, of all its threads.
///
/// # Errors
/// When the process is gone.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = ticks(&text).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
}

/// CPU time so far of everything that this machine does, and of what its host has taken from it.
///
/// # Errors
/// When the system does not report it.
pub fn cpu_time_of_all() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let ticks = busy_ticks(&text).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
}

/// Resident memory of a process now, and the most so far, in KiB.
///
/// # Errors
/// When the process is gone.
pub fn memory_kib(pid: u32) -> io::Result<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    kib(&text, "VmRSS:").zip(kib(&text, "VmHWM:")).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// User and system time, the 14th and 15th fields. The second, the name, may contain spaces and brackets.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// User, nice, system, interrupts and steal, without the time of idling and of waiting for disks.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().find_map(|line| line.strip_prefix("cpu "))?.split_whitespace();
    let ticks: Vec<u64> = fields.map(|field| field.parse().ok()).collect::<Option<_>>()?;
    let [user, nice, system, _idle, _waiting, interrupt, soft_interrupt, steal, ..] = ticks[..] else { return None };
    Some(user + nice + system + interrupt + soft_interrupt + steal)
}

fn kib(status: &str, field: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "42 (a) name) S 1 42 42 0 -1 4194560 100 0 0 0 17 25 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("42 (name) S 1"), None);
    }

    #[test]
    fn idle_time_does_not_count() {
        let stat = "cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), Some(63));
        assert_eq!(busy_ticks("cpu  1 2"), None);
    }

    #[test]
    fn own_process_has_memory() {
        let (resident, peak) = memory_kib(std::process::id()).expect("is alive");
        assert!(resident > 0 && peak >= resident);
        cpu_time(std::process::id()).expect("is alive");
    }
}
