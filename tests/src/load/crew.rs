//! A client in this process, workers in their own processes, and brokers in between or none.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum;
use xero::Client;

use super::{
    member::{Condition, Member},
    role::{BROKER, LIVENESS, TELLS, WORKER},
};
use crate::scene::{Port, eventually};

/// How calls find workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Topology {
    /// Workers dial the client.
    Direct,
    /// The client and all workers dial two brokers.
    Brokered,
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Brokered => "brokered",
        })
    }
}

/// The processes to start.
#[derive(Clone, Debug)]
pub struct CrewConfig {
    /// The program that plays the roles; see [`super::child`].
    pub program: PathBuf,
    /// How calls find workers.
    pub topology: Topology,
    /// The number of workers.
    pub workers: usize,
    /// The heartbeat interval, with [`LIVENESS`]; otherwise the defaults apply.
    pub interval: Option<Duration>,
    /// The attempts of a call.
    pub attempts_max: Option<u8>,
}

/// All processes that take part in the calls.
#[derive(Debug)]
pub struct Crew {
    /// The caller.
    pub client: Client,
    /// The brokers, then the workers.
    pub members: Vec<Member>,
    brokers: usize,
    /// Keeps the ports free for restarted brokers.
    _ports: Vec<Port>,
}

impl Crew {
    /// Starts all and waits until each worker is reachable over every path. Workers note in that file the calls that
    /// must not run twice.
    pub async fn start(config: &CrewConfig, journal: Option<&Path>) -> Self {
        let brokers = if config.topology == Topology::Brokered { BROKERS } else { 0 };
        let ports: Vec<_> = (0..2 * brokers).map(|_| Port::reserve()).collect();
        let [frontends, backends] = [0, 1].map(|side| ports.iter().skip(side).step_by(2).map(Port::endpoint));
        let (frontends, mut backends): (Vec<_>, Vec<_>) = (frontends.collect(), backends.collect());
        let mut members: Vec<_> = (0..brokers)
            .map(|number| {
                let endpoints = [frontends[number].clone(), backends[number].clone()];
                config.member(BROKER, number, config.broker_options(), &endpoints)
            })
            .collect();
        let client = config.client(&frontends).await;
        if brokers == 0 {
            backends.push(client.endpoint().to_owned());
        }
        let worker = |number| config.member(WORKER, number, config.worker_options(journal), &backends);
        members.extend((0..config.workers).map(worker));
        let crew = Self { client, members, brokers, _ports: ports };
        eventually("all are reachable", async || crew.is_whole()).await;
        crew
    }

    /// Whether each worker is reachable over every path.
    pub fn is_whole(&self) -> bool {
        let workers = self.members.len() - self.brokers;
        self.paths().len() == workers * self.brokers.max(1)
    }

    /// The number of workers that are reachable without this member.
    pub fn reachable_without(&self, index: Option<usize>) -> usize {
        let leads_there = |path: &(Option<usize>, usize)| index.is_some() && (path.0 == index || Some(path.1) == index);
        let paths = self.paths().into_iter().filter(|path| !leads_there(path));
        let mut workers: Vec<_> = paths.map(|(_, worker)| worker).collect();
        workers.sort_unstable();
        workers.dedup();
        workers.len()
    }

    /// Every path to a reachable worker: its broker, if there are brokers, and the worker.
    ///
    /// A worker is reachable if its process runs, is not frozen and was not asked to leave, and its client lists the
    /// worker's current life. With brokers, the same must hold for the broker. The broker must also have reported the
    /// worker's current life since it was started or thawed.
    fn paths(&self) -> Vec<(Option<usize>, usize)> {
        let known: Vec<_> = self.client.workers().iter().map(|worker| worker.id.to_string()).collect();
        let is_known = |member: &Member| running_id(member).is_some_and(|id| known.contains(&id));
        let workers = || self.brokers..self.members.len();
        if self.brokers == 0 {
            return workers().filter(|index| is_known(&self.members[*index])).map(|index| (None, index)).collect();
        }
        let brokers = (0..self.brokers).filter(|index| is_known(&self.members[*index]));
        let behind = |broker: usize| {
            let broker_has =
                move |index: &usize| running_id(&self.members[*index]).is_some_and(|id| self.members[broker].has(&id));
            workers().filter(broker_has).map(move |index| (Some(broker), index))
        };
        brokers.flat_map(behind).collect()
    }
}

fn running_id(member: &Member) -> Option<String> {
    (member.condition() == Condition::Running).then(|| member.id()).flatten()
}

impl CrewConfig {
    async fn client(&self, frontends: &[String]) -> Client {
        let mut settings = Client::builder().backoff(BACKOFF.0, BACKOFF.1);
        if let Some(interval) = self.interval {
            settings = settings.heartbeat_interval(interval).liveness(LIVENESS);
        }
        if let Some(attempts) = self.attempts_max {
            settings = settings.attempts_max(attempts);
        }
        match self.topology {
            Topology::Direct => settings.bind("tcp://127.0.0.1:0").await.expect("a free port"),
            Topology::Brokered => settings.connect(frontends).expect("the settings are sound"),
        }
    }

    fn member(&self, role: &str, number: usize, options: Vec<String>, endpoints: &[String]) -> Member {
        let program = self.program.to_str().expect("a path in Unicode");
        let arguments = [&[role.to_owned()][..], &options, endpoints].concat();
        Member::start(format!("{role} {number}"), program, arguments)
    }

    fn broker_options(&self) -> Vec<String> {
        let attempts = self.attempts_max.map(|attempts| ["--attempts".to_owned(), attempts.to_string()]);
        let attempts = attempts.into_iter().flatten().collect();
        [self.interval_option(), attempts, drain_option(), vec![format!("--{TELLS}")]].concat()
    }

    fn worker_options(&self, journal: Option<&Path>) -> Vec<String> {
        let journal = journal.map(|path| ["--journal".to_owned(), path.display().to_string()]);
        let backoff = format!("{}..{}", BACKOFF.0.as_millis(), BACKOFF.1.as_millis());
        let backoff = vec!["--backoff".to_owned(), backoff];
        [self.interval_option(), journal.into_iter().flatten().collect(), backoff, drain_option()].concat()
    }

    fn interval_option(&self) -> Vec<String> {
        let option = self.interval.map(|interval| ["--interval".to_owned(), interval.as_millis().to_string()]);
        option.into_iter().flatten().collect()
    }
}

fn drain_option() -> Vec<String> {
    vec!["--drain".to_owned(), DRAIN.as_millis().to_string()]
}

/// The bounds of the wait between two dials: short, because much must return in a run of seconds.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// The time limit of a drain here.
pub const DRAIN: Duration = Duration::from_secs(5);

/// Two, so that one is left when the other is away.
const BROKERS: usize = 2;
