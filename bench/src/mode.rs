//! What is measured: the modes, and the two kinds of Tokio runtime.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A way of calling, with its own placement on the CPUs and its own figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// One call after another, all processes on one CPU
    SequentialOneCpu,
    /// One call after another, a CPU for each process
    SequentialCpuEach,
    /// 64 calls in flight on one connection
    #[value(name = "in-flight-64")]
    #[serde(rename = "in-flight-64")]
    InFlight64,
    /// 1,024 calls in flight on one connection
    #[value(name = "in-flight-1024")]
    #[serde(rename = "in-flight-1024")]
    InFlight1024,
    /// 8 calls of 1 MiB in flight, as bytes
    Bytes,
    /// 128 workers, 16 calls in flight for each
    Workers,
}

/// The figure by which a mode compares peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// The median time of a call; lower is better.
    MedianLatency,
    /// The mean time of a call; lower is better.
    MeanLatency,
    /// Calls per second; higher is better.
    Rate,
}

impl Mode {
    /// Its title in tables and plots.
    pub fn title(self) -> &'static str {
        match self {
            Self::SequentialOneCpu => "Sequential, both sides on one CPU",
            Self::SequentialCpuEach => "Sequential, a CPU for each side",
            Self::InFlight64 => "64 in flight, one connection",
            Self::InFlight1024 => "1,024 in flight, one connection",
            Self::Bytes => "1 MiB, 8 in flight, as bytes",
            Self::Workers => "128 workers, 16 in flight for each",
        }
    }

    /// Its name on the command line and in files.
    pub fn name(self) -> String {
        name_of(self)
    }

    /// The figure by which it compares peers.
    pub fn figure(self) -> Figure {
        match self {
            Self::SequentialOneCpu => Figure::MedianLatency,
            Self::SequentialCpuEach => Figure::MeanLatency,
            _ => Figure::Rate,
        }
    }

    /// Whether a call starts only after the one before it has ended.
    pub fn is_sequential(self) -> bool {
        self.in_flight() == 1
    }

    /// The number of calls in flight, over all workers.
    pub fn in_flight(self) -> usize {
        match self {
            Self::SequentialOneCpu | Self::SequentialCpuEach => 1,
            Self::InFlight64 => 64,
            Self::InFlight1024 => 1_024,
            Self::Bytes => 8,
            Self::Workers => self.workers() * 16,
        }
    }

    /// The number of workers, all in one process.
    pub fn workers(self) -> usize {
        if self == Self::Workers { 128 } else { 1 }
    }

    /// The size of a request's payload and of its reply, in bytes.
    pub fn payload_bytes(self) -> usize {
        if self.is_large() { 1 << 20 } else { 64 }
    }

    /// Whether payloads are large, and travel as bytes instead of text.
    pub fn is_large(self) -> bool {
        self == Self::Bytes
    }
}

impl Figure {
    /// Its title in tables and plots.
    pub fn title(self) -> &'static str {
        match self {
            Self::MedianLatency => "p50, µs",
            Self::MeanLatency => "mean, µs",
            Self::Rate => "calls/s",
        }
    }
}

/// A kind of Tokio runtime, the same for all processes of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flavor {
    /// A thread per CPU that the process may use
    MultiThread,
    /// One thread
    CurrentThread,
}

impl Flavor {
    /// Its name on the command line and in files.
    pub fn name(self) -> String {
        name_of(self)
    }
}

/// The name of a value on the command line.
pub(crate) fn name_of(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_on_the_command_line_and_in_files() {
        for mode in Mode::value_variants() {
            assert_eq!(serde_json::to_value(mode).expect("is written"), mode.name());
        }
        for flavor in Flavor::value_variants() {
            assert_eq!(serde_json::to_value(flavor).expect("is written"), flavor.name());
        }
    }
}
