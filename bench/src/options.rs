//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    mode::{Flavor, Mode},
    peer::Peer,
    record::Case,
    stage::Cast,
};

/// Measures Xero beside a bare TCP loop and its peers: the same echo, in the same run, on this machine
#[derive(Debug, Parser)]
#[command(name = "xero-bench", version, after_help = HELP)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Options {
    /// What a child process is started with.
    #[command(subcommand)]
    pub role: Option<Role>,
    /// What to measure.
    #[command(flatten)]
    pub run: RunOptions,
}

/// What the program is started for, other than a run.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// What a run starts.
    #[command(hide = true)]
    Play(Cast),
}

/// What to measure.
#[derive(Debug, Args)]
pub struct RunOptions {
    /// Rounds, each of which measures everything once: 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Seconds of each measurement: 0.05 to 3600
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = seconds)]
    pub seconds: f64,
    /// Seconds of calls before each measurement: 0.05 to 3600
    #[arg(long, value_name = "S", default_value_t = 0.5, value_parser = seconds)]
    pub warm_up: f64,
    /// Only these modes, with commas between them
    #[arg(long, value_name = "MODE", value_delimiter = ',')]
    pub modes: Vec<Mode>,
    /// Only these peers, with commas between them
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    pub peers: Vec<Peer>,
    /// Only these kinds of Tokio runtime, with commas between them
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub runtimes: Vec<Flavor>,
    /// The folder for results.jsonl, tables.md and the plots; made if it does not exist
    #[arg(long, value_name = "FOLDER", default_value = "bench/results")]
    pub output: PathBuf,
    /// The Python interpreter that runs libzmq; without its module zmq, libzmq is skipped
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub python: String,
}

/// The rest of the help.
const HELP: &str = "\
Client and server are processes of their own, each pinned to a CPU. Each round measures every mode, runtime and peer
once, so that what disturbs one round disturbs all peers alike. Tables show the median of the rounds; ratios are those
of figures of the same round. A peer that fails is a row with its reason. A full run takes about a quarter of an hour.

Exit codes:
    0  the run is complete, whatever it has measured
    1  the results could not be written
    2  the command line was wrong
  130  ctrl-c ended the run; what it had measured is written

Examples:
    cargo run --release --manifest-path bench/Cargo.toml
    cargo run --release --manifest-path bench/Cargo.toml -- --modes bytes,workers --peers xero --rounds 5";

impl RunOptions {
    /// What each round measures, in its order: all peers of a mode and runtime one after another.
    pub fn cases(&self) -> Vec<Case> {
        let (modes, peers, flavors) = (chosen(&self.modes), chosen(&self.peers), chosen(&self.runtimes));
        let mut cases = Vec::new();
        for mode in modes {
            let peers = || peers.iter().copied().filter(|peer| peer.supports(mode));
            for flavor in &flavors {
                let peers = peers().filter(|peer| peer.has_runtime());
                cases.extend(peers.map(|peer| Case { mode, peer, runtime: Some(*flavor) }));
            }
            let peers = peers().filter(|peer| !peer.has_runtime());
            cases.extend(peers.map(|peer| Case { mode, peer, runtime: None }));
        }
        cases
    }
}

/// What was asked for in its usual order, or everything.
fn chosen<T: ValueEnum + Copy + PartialEq>(values: &[T]) -> Vec<T> {
    let is_chosen = |value: &&T| values.is_empty() || values.contains(value);
    T::value_variants().iter().filter(is_chosen).copied().collect()
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.05..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "give a number from 0.05 to 3600".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn default_run_measures_each_case_once() {
        let cases = parse(&[]).cases();
        let distinct: std::collections::BTreeSet<_> = cases.iter().collect();
        assert_eq!(distinct.len(), cases.len());
        for peer in Peer::value_variants() {
            assert!(cases.iter().any(|case| case.peer == *peer), "{peer:?}");
        }
    }

    #[test]
    fn selection_keeps_only_what_was_asked_for() {
        let run = parse(&["--modes", "workers,bytes", "--peers", "libzmq,bare", "--runtimes", "current-thread"]);
        let case = |mode, peer, runtime| Case { mode, peer, runtime };
        let expected = [
            case(Mode::Bytes, Peer::Bare, Some(Flavor::CurrentThread)),
            case(Mode::Bytes, Peer::Libzmq, None),
            case(Mode::Workers, Peer::Libzmq, None),
        ];
        assert_eq!(run.cases(), expected);
    }

    #[test]
    fn seconds_have_bounds() {
        assert_eq!(seconds("0.5"), Ok(0.5));
        for text in ["0", "-1", "NaN", "3601", "soon"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    fn parse(arguments: &[&str]) -> RunOptions {
        Options::parse_from([&["xero-bench"], arguments].concat()).run
    }
}
