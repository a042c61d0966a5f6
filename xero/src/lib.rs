//! `#[xero::service]` turns a Rust trait into a remote service, `#[xero::worker]` its impl into worker procedures.
//!
//! Workers dial out over ZeroMQ, and both sides send heartbeats. A worker may start, leave, crash, freeze or lose its
//! network at any time. Each call still ends exactly once, by its deadline: with its reply, or with an error that says
//! what happened and whether the procedure may have run. Start with [`service`], [`worker`], [`Client`] and [`Worker`].
//!
#![cfg_attr(feature = "net", doc = "```")]
#![cfg_attr(not(feature = "net"), doc = "```text")]
//! use xero::{Client, Worker};
//!
//! #[xero::service]
//! trait Calculator {
//!     /// The sum of two numbers.
//!     #[xero(idempotent)]
//!     async fn add(&self, left: i64, right: i64) -> i64;
//!     async fn divide(&self, left: i64, right: i64) -> Result<i64, String>;
//! }
//!
//! struct Abacus;
//!
//! #[xero::worker]
//! impl Calculator for Abacus {
//!     async fn add(&self, left: i64, right: i64) -> i64 {
//!         left + right
//!     }
//!
//!     async fn divide(&self, left: i64, right: i64) -> Result<i64, String> {
//!         left.checked_div(right).ok_or_else(|| format!("{left} / {right} has no result"))
//!     }
//! }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::bind("tcp://127.0.0.1:0").await?;
//!     let _worker = Worker::connect(client.endpoint()).serve(Abacus).start()?;
//!
//!     let calculator = CalculatorClient::new(&client);
//!     assert_eq!(calculator.add(19, 23).await?, 42);
//!     let error = calculator.divide(1, 0).await.unwrap_err();
//!     assert_eq!(error, xero::CallError::Application("1 / 0 has no result".to_owned()));
//!     Ok(())
//! }
//! ```
//!
#![cfg_attr(feature = "net", doc = "# Guide")]
#![cfg_attr(feature = "net", doc = "")]
#![cfg_attr(
    feature = "net",
    doc = "- [Choosing a codec](guide::codecs): what each codec carries, what it costs, and how to test your types."
)]
#![cfg_attr(
    feature = "net",
    doc = "- [Changing a service](guide::changing_a_service): what happens while one side is older than the other."
)]
//!
//! # Features
//!
//! - `net` (default): clients, workers, transports and macros. Without it the crate is [`proto`], the protocol core,
//!   which has neither Tokio nor ZeroMQ in its tree.
//! - `zeromq`: a second transport, `Transport::ZeroMq`, by the crate of that name. For comparison, on trusted networks.
//! - `bincode`, `messagepack`, `json` (default) and `postcard`: the codecs, of which a program needs at least one.

// Tests start the clock themselves; nothing else of the library may.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod proto;

// Called like the well-known macro, by which name rustfmt finds the modules within.
macro_rules! cfg_if {
    (if #[cfg($condition:meta)] { $($item:item)* }) => { $(#[cfg($condition)] $item)* };
}

cfg_if! { if #[cfg(feature = "net")] {
    #[doc(hidden)]
    #[path = "private.rs"]
    pub mod __private;
    mod broker;
    mod client;
    mod codec;
    mod config;
    mod error;
    pub mod guide;
    mod info;
    mod io;
    mod transport;
    mod wire;
    mod worker;

    pub use crate::{
        broker::{Broker, BrokerBuilder},
        client::{Call, Client, ClientBuilder, PendingCall, Value},
        codec::{CodecError, assert_roundtrips, assert_roundtrips_in},
        config::ProgramTurns,
        error::{BindError, CallError, ConfigError, ConnectError, Never, NoWorkerError, PartialError, RpcError, StartError},
        info::WorkerInfo,
        proto::{
            broker::BrokerCounters,
            dispatch::DispatcherCounters,
            frame::TooLarge,
            message::{CallId, Codec, Metadata, Peer},
            registry::{Candidate, LeastRecentlyUsed, WorkerChoice},
            worker::WorkerCounters,
        },
        transport::{Endpoint, EndpointError, IntoEndpoints, Transport, TransportError},
        worker::{BoundService, Context, ContextBuilder, IntoService, TestCall, Worker, WorkerBuilder},
    };
    pub use xero_macros::{service, worker};
} }
