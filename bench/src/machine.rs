//! Where and with what a run was made: the first line of its results.

use std::{
    collections::BTreeMap,
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use crate::measure::Plan;

/// The machine, the settings and the versions of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The model of its CPUs.
    pub cpu: String,
    /// The CPUs that the run may use.
    pub cpus: Vec<usize>,
    /// The kernel's version.
    pub kernel: String,
    /// Memory in KiB.
    pub memory_kib: u64,
    /// Load averages when the run began: a shared machine has some before it.
    pub load_average: String,
    /// When the run began, in seconds since 1970.
    pub unix_seconds: u64,
    /// Whether the build has optimizations off.
    pub is_debug_build: bool,
    /// Rounds.
    pub rounds: u32,
    /// Seconds of a measurement.
    pub seconds: f64,
    /// Seconds before it.
    pub warm_up: f64,
    /// The version of each peer.
    pub versions: BTreeMap<String, String>,
}

impl Machine {
    /// Looks around.
    pub fn here(plan: &Plan, rounds: u32, libzmq: Option<&str>) -> Self {
        let mut versions = versions();
        versions.extend(libzmq.map(|version| ("libzmq".to_owned(), version.to_owned())));
        Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cpus: plan.cpus.clone(),
            kernel: line("/proc/sys/kernel/osrelease"),
            memory_kib: field("/proc/meminfo", "MemTotal").and_then(|text| digits(&text)).unwrap_or(0),
            load_average: line("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" "),
            unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            is_debug_build: cfg!(debug_assertions),
            rounds,
            seconds: plan.seconds,
            warm_up: plan.warm_up,
            versions,
        }
    }
}

/// The versions that this program was built with.
fn versions() -> BTreeMap<String, String> {
    let packages = include_str!("../Cargo.lock").split("[[package]]");
    let text = |package: &str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))?;
        Some(line.trim_matches('"').to_owned())
    };
    let versions = packages.filter_map(|package| Some((text(package, "name")?, text(package, "version")?)));
    versions.filter(|(name, _)| MEASURED.contains(&name.as_str())).collect()
}

/// The packages whose versions matter.
const MEASURED: [&str; 6] = ["xero", "tokio", "tarpc", "tonic", "jsonrpsee", "zeromq"];

fn line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let value = text.lines().find(|line| line.starts_with(name))?.split_once(':')?.1;
    Some(value.trim().to_owned())
}

fn digits(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_from_crates_io_has_a_version() {
        let versions = versions();
        assert_eq!(versions.keys().map(String::as_str).collect::<Vec<_>>(), {
            let mut names = MEASURED;
            names.sort_unstable();
            names
        });
        assert_eq!(versions["zeromq"], "0.7.0");
    }
}
