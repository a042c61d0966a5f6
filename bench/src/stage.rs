//! A child process: takes its place on the CPUs, builds its runtime, and plays its part.

use std::{io, time::Duration};

use clap::Args;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::runtime::{Builder, Runtime};

use crate::{
    load::Failure,
    mode::{Flavor, Mode},
    peer::{Part, Peer},
    peers,
    session::Session,
};

/// What a child is to do, as arguments of its command line.
#[derive(Clone, Debug, Args)]
pub struct Cast {
    /// The implementation to run.
    #[arg(long)]
    pub peer: Peer,
    /// What this process does in it.
    #[arg(long)]
    pub part: Part,
    /// How to call.
    #[arg(long)]
    pub mode: Mode,
    /// The kind of runtime.
    #[arg(long, default_value = "multi-thread")]
    pub runtime: Flavor,
    /// The CPUs that the process may use.
    #[arg(long, value_delimiter = ',')]
    pub cpus: Vec<usize>,
    /// Where to connect.
    #[arg(long, default_value = "")]
    pub endpoint: String,
    /// Seconds to call before the measurement.
    #[arg(long)]
    pub warm_up: f64,
    /// Seconds to measure.
    #[arg(long)]
    pub seconds: f64,
}

/// Plays the part until the parent ends the conversation.
///
/// # Errors
/// When the peer fails.
pub fn play(cast: Cast) -> Result<(), Failure> {
    // Before any thread is started: threads inherit it, and runtimes count the CPUs that they may use.
    pin(&cast.cpus)?;
    let seconds = Duration::try_from_secs_f64;
    let session = Session::open(cast.mode, cast.endpoint, seconds(cast.warm_up)?, seconds(cast.seconds)?);
    let runtime = runtime(cast.runtime)?;
    // As a task, since a multi-thread runtime treats the future that it blocks on worse than its tasks.
    runtime.block_on(async { tokio::spawn(act(cast.peer, cast.part, session)).await? })
}

/// The CPUs that this process may use.
///
/// # Errors
/// When the system does not tell.
pub fn cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

fn pin(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    Ok(sched_setaffinity(None, &set)?)
}

fn runtime(flavor: Flavor) -> io::Result<Runtime> {
    let mut builder = match flavor {
        Flavor::MultiThread => Builder::new_multi_thread(),
        Flavor::CurrentThread => Builder::new_current_thread(),
    };
    builder.enable_all().build()
}

async fn act(peer: Peer, part: Part, session: Session) -> Result<(), Failure> {
    use peers::{bare, jsonrpsee, tarpc, tonic, xero, zeromq};
    match (peer, part) {
        (Peer::Bare, Part::Client) => bare::flushing_client(session).await?,
        (Peer::Bare, _) => bare::flushing_server(session).await?,
        (Peer::Batching, Part::Client) => bare::batching_client(session).await?,
        (Peer::Batching, _) => bare::batching_server(session).await?,
        (Peer::Xero, Part::Client) => xero::binding_client(session, false).await?,
        (Peer::XeroInline, Part::Client) => xero::binding_client(session, true).await?,
        (Peer::XeroBrokered, Part::Client) => xero::connecting_client(session).await?,
        (Peer::XeroBrokered, Part::Broker) => xero::broker().await?,
        (Peer::Xero | Peer::XeroInline | Peer::XeroBrokered, _) => xero::workers(session).await?,
        (Peer::Tarpc, Part::Client) => tarpc::client(session).await?,
        (Peer::Tarpc, _) => tarpc::server().await?,
        (Peer::Tonic, Part::Client) => tonic::client(session).await?,
        (Peer::Tonic, _) => tonic::server().await?,
        (Peer::Jsonrpsee, Part::Client) => jsonrpsee::client(session).await?,
        (Peer::Jsonrpsee, _) => jsonrpsee::server().await?,
        (Peer::Zeromq, Part::Client) => zeromq::router(session).await?,
        (Peer::Zeromq, _) => zeromq::dealers(session).await?,
        (Peer::Libzmq, _) => return Err("libzmq runs in Python".into()),
    }
    // A server whose peer is gone has nothing more to do, but its parent still reads what it has used.
    std::future::pending().await
}
