//! One measurement: starts its processes in their places, has the client measure, and counts what all have used.

use std::{
    collections::BTreeMap,
    env,
    time::{Duration, Instant},
};

use tokio::{process::Command, time::timeout};

use crate::{
    libzmq,
    load::Failure,
    mode::{Mode, name_of},
    peer::{Part, Peer},
    process::Processes,
    record::{Case, Figures, Outcome, Usage},
    session::Report,
    usage,
};

/// What all measurements of a run have in common.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seconds to call before the measurement.
    pub warm_up: f64,
    /// Seconds to measure.
    pub seconds: f64,
    /// The CPUs that processes may be pinned to; at least one.
    pub cpus: Vec<usize>,
    /// The Python interpreter for libzmq.
    pub python: String,
}

/// Measures a case once. Whatever goes wrong is an outcome.
pub async fn measure(case: Case, plan: &Plan) -> Outcome {
    let mut processes = Processes::default();
    let time = Duration::try_from_secs_f64(plan.warm_up + plan.seconds).unwrap_or(Duration::MAX);
    let time = time.saturating_add(GRACE);
    let outcome = match timeout(time, perform(case, plan, &mut processes)).await {
        Ok(Ok(figures)) => Outcome::Measured(figures),
        Ok(Err(failure)) => Outcome::Failed { error: failure.to_string() },
        Err(_) => Outcome::Failed { error: format!("no result after {} s", time.as_secs()) },
    };
    processes.end().await;
    outcome
}

/// What a measurement may take beyond the calls, to start and to connect.
const GRACE: Duration = Duration::from_secs(20);

async fn perform(case: Case, plan: &Plan, processes: &mut Processes) -> Result<Figures, Failure> {
    let mut endpoints = Vec::new();
    for (index, part) in case.peer.parts().iter().enumerate() {
        // Of a broker's two endpoints, the first is for clients.
        let endpoint = if *part == Part::Client { endpoints.first() } else { endpoints.last() };
        processes.start(*part, command(case, *part, plan, endpoint.map_or("", String::as_str))?)?;
        if index == 0 {
            let line = processes.line(*part).await?;
            let ready = line.strip_prefix("ready ").ok_or_else(|| format!("unexpected line: {line}"))?;
            endpoints = ready.split(' ').map(str::to_owned).collect();
        }
    }
    processes.line(Part::Client).await?;
    let before = (cpu_times(processes)?, usage::cpu_time_of_all()?, Instant::now());
    processes.say(Part::Client, "go").await?;
    let line = processes.line(Part::Client).await?;
    let after = (cpu_times(processes)?, usage::cpu_time_of_all()?, Instant::now());
    let report: Report = serde_json::from_str(&line)?;
    if report.calls == 0 {
        return Err("no call has ended".into());
    }
    let mut used = BTreeMap::new();
    for (part, pid) in processes.ids() {
        let (resident_kib, peak_kib) = usage::memory_kib(pid)?;
        let name = name_of(part);
        let cpu_seconds = (after.0[&name] - before.0[&name]).as_secs_f64();
        used.insert(name, Usage { cpu_seconds, resident_kib, peak_kib });
    }
    let elsewhere = (after.1 - before.1).as_secs_f64() - used.values().map(|usage| usage.cpu_seconds).sum::<f64>();
    // Both are rounded to ticks of the system's clock: on an idle machine, the difference may be below zero.
    let cpus_elsewhere = (elsewhere / (after.2 - before.2).as_secs_f64()).max(0.0);
    Ok(Figures { report, processes: used, cpus_elsewhere })
}

fn cpu_times(processes: &Processes) -> Result<BTreeMap<String, Duration>, Failure> {
    processes.ids().map(|(part, pid)| Ok((name_of(part), usage::cpu_time(pid)?))).collect()
}

/// The command of a child: this program again, or Python for libzmq.
fn command(case: Case, part: Part, plan: &Plan, endpoint: &str) -> Result<Command, Failure> {
    let cpus: Vec<_> = place(case.mode, part, &plan.cpus).iter().map(usize::to_string).collect();
    let cpus = cpus.join(",");
    if case.peer == Peer::Libzmq {
        return Ok(libzmq::command(plan, case.mode, part, &cpus, endpoint));
    }
    let mut command = Command::new(env::current_exe()?);
    command.args(["play", "--peer", &case.peer.name(), "--part", &name_of(part), "--mode", &case.mode.name()]);
    command.args(["--cpus", &cpus, "--endpoint", endpoint]);
    command.args(["--warm-up", &plan.warm_up.to_string(), "--seconds", &plan.seconds.to_string()]);
    if let Some(runtime) = case.runtime {
        command.args(["--runtime", &runtime.name()]);
    }
    Ok(command)
}

/// The CPUs of a part: one for all, or one each. A broker has the third; where there is none, it runs on both others.
fn place(mode: Mode, part: Part, cpus: &[usize]) -> Vec<usize> {
    let (first, last) = (cpus[0], cpus[cpus.len() - 1]);
    match (mode, part, cpus) {
        // The last: the system's own work tends to run on the first.
        (Mode::SequentialOneCpu, ..) => vec![last],
        (_, Part::Client, _) => vec![first],
        (_, Part::Broker, [_, _, third, ..]) => vec![*third],
        (_, Part::Broker, _) => cpus.to_vec(),
        (_, Part::Server, [_, second, ..]) => vec![*second],
        (_, Part::Server, _) => vec![last],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cpu_is_shared_and_several_are_not() {
        let parts = [Part::Client, Part::Server, Part::Broker];
        let places = |mode, cpus: &[usize]| parts.map(|part| place(mode, part, cpus));
        assert_eq!(places(Mode::SequentialOneCpu, &[2, 5, 7]), [[7], [7], [7]]);
        assert_eq!(places(Mode::SequentialCpuEach, &[2, 5, 7]), [[2], [5], [7]]);
        assert_eq!(places(Mode::InFlight64, &[2, 5]), [vec![2], vec![5], vec![2, 5]]);
        assert_eq!(places(Mode::InFlight64, &[2]), [[2], [2], [2]]);
    }
}
