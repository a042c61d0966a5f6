//! Command lines, parsed as the programs themselves parse them.

use std::time::Duration;

use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};
use xero_demo::{broker::BrokerOptions, client::ClientOptions, lifecycle::LifecycleOptions, worker::WorkerOptions};

/// The program of a container.
#[derive(Debug)]
pub(crate) enum Program {
    Broker { frontend: u16, backend: u16 },
    Worker { endpoints: Vec<String> },
    Client { endpoints: Vec<String> },
}

/// The question to `demo-lifecycle`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Listening(Vec<u16>),
    Connected(u16),
    Drain { pid: i32, timeout: Duration },
}

pub(crate) fn program(command: &[&str]) -> Program {
    let (name, matches) = parsed(command);
    let texts = |option: &str| matches.get_many::<String>(option).expect("it is given").cloned();
    match name {
        "demo-broker" => Program::Broker {
            frontend: port(&texts("frontend").next().expect("an endpoint")),
            backend: port(&texts("backend").next().expect("an endpoint")),
        },
        "demo-worker" => Program::Worker { endpoints: texts("endpoints").collect() },
        "demo-client" => {
            let endpoints = texts("connect").flat_map(|text| text.split(',').map(str::to_owned).collect::<Vec<_>>());
            Program::Client { endpoints: endpoints.collect() }
        }
        _ => panic!("{name} is no program of a container"),
    }
}

pub(crate) fn asked(command: &[&str]) -> Asked {
    let (name, matches) = parsed(command);
    assert_eq!(name, "demo-lifecycle");
    match LifecycleOptions::from_arg_matches(&matches).expect("a question") {
        LifecycleOptions::Listening { ports } => Asked::Listening(ports.into_iter().map(u16::from).collect()),
        LifecycleOptions::Connected { port } => Asked::Connected(port.into()),
        LifecycleOptions::Drain { pid, timeout } => Asked::Drain { pid, timeout },
    }
}

/// The program's name and its valid options. A container has the programs in `/usr/local/bin`, and no shell to find
/// them.
fn parsed<'a>(command: &[&'a str]) -> (&'a str, ArgMatches) {
    let name = command[0].strip_prefix("/usr/local/bin/").unwrap_or_else(|| panic!("{} is a path", command[0]));
    (name, matches(name, &command[1..]))
}

/// The program's parsed arguments; panics with its error if they are wrong.
pub(crate) fn matches(name: &str, arguments: &[&str]) -> ArgMatches {
    let program = Command::new("program").no_binary_name(true);
    let program = match name {
        "demo-broker" => BrokerOptions::augment_args(program),
        "demo-worker" => WorkerOptions::augment_args(program),
        "demo-client" => ClientOptions::augment_args(program),
        "demo-lifecycle" => LifecycleOptions::augment_subcommands(program).subcommand_required(true),
        _ => panic!("there is no {name}"),
    };
    program.try_get_matches_from(arguments).unwrap_or_else(|error| panic!("{name} {arguments:?}: {error}"))
}

fn port(endpoint: &str) -> u16 {
    let port = endpoint.strip_prefix("tcp://*:").unwrap_or_else(|| panic!("{endpoint} is every interface"));
    port.parse().expect("a port")
}
