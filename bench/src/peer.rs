//! Who is measured: the peers, what each of them supports, and the order in which its processes start.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::mode::{Mode, name_of};

/// An implementation of the echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// A bare Tokio TCP loop that writes each message by itself
    Bare,
    /// A bare Tokio TCP loop that reads and writes whatever has gathered
    Batching,
    /// Xero, the client binds and the worker connects
    Xero,
    /// The same with an inline procedure
    XeroInline,
    /// Xero, with a broker between client and worker
    XeroBrokered,
    /// tarpc, bincode over TCP
    Tarpc,
    /// tonic, protobuf over HTTP/2
    Tonic,
    /// jsonrpsee, JSON over WebSocket
    Jsonrpsee,
    /// The crate zeromq, raw ROUTER and DEALER
    Zeromq,
    /// libzmq through pyzmq, raw ROUTER and DEALER
    Libzmq,
}

/// What a process of a measurement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Makes the calls, and measures them.
    Client,
    /// Serves the calls.
    Server,
    /// Routes the calls.
    Broker,
}

impl Peer {
    /// Its name on the command line, in tables and in files.
    pub fn name(self) -> String {
        name_of(self)
    }

    /// Whether it takes part in the mode.
    pub fn supports(self, mode: Mode) -> bool {
        match self {
            // Nothing gathers while one call is in flight.
            Self::Batching => !mode.is_sequential() && mode != Mode::Workers,
            Self::Xero | Self::XeroInline | Self::Zeromq | Self::Libzmq => true,
            _ => mode != Mode::Workers,
        }
    }

    /// Whether it runs on Tokio, and so once on each kind of runtime.
    pub fn has_runtime(self) -> bool {
        self != Self::Libzmq
    }

    /// Its processes in the order in which they start. The first binds its endpoints, and the others connect.
    pub fn parts(self) -> &'static [Part] {
        match self {
            Self::Xero | Self::XeroInline | Self::Zeromq | Self::Libzmq => &[Part::Client, Part::Server],
            Self::XeroBrokered => &[Part::Broker, Part::Server, Part::Client],
            _ => &[Part::Server, Part::Client],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_has_xero_and_a_peer_to_compare_it_with() {
        for mode in Mode::value_variants() {
            assert!(Peer::Xero.supports(*mode));
            assert!([Peer::Bare, Peer::Libzmq].iter().any(|peer| peer.supports(*mode)));
        }
    }

    #[test]
    fn names_are_the_same_on_the_command_line_and_in_files() {
        for peer in Peer::value_variants() {
            assert_eq!(serde_json::to_value(peer).expect("is written"), peer.name());
        }
    }
}
