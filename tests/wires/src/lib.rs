//! A simulated network: connections between processes, faults, and the queue of everything that happens.
//!
//! It carries frames of any type between processes of any type. The conversation tests of the core
//! (`xero/src/proto/tests`) script its faults by hand; the simulator (`tests/simulator`) draws them from a seed. Machines,
//! clocks, freezes and scripts belong to those two. Time is an argument and chance has a seed, so equal inputs give equal
//! outputs.
//!
//! A parcel takes three steps, and a simulation may pause it before each:
//!
//! 1. [`Network::send`] and its like post its arrival in the [`Queue`], behind all earlier parcels to the same end.
//! 2. [`Network::arrive`] lets it cross, loses it, or holds it where its direction is blocked.
//! 3. [`Network::take`] gives its contents to the process, which may be frozen or busy until then.
//!
//! ```
//! use std::time::Duration;
//! use xero_wires::{At, Network, Parcel, Side, Taken};
//!
//! // This simulation has no other events than arrivals.
//! let mut network: Network<&str, (), &str, Parcel<&str>> = Network::new(0);
//! network.latency = Duration::from_millis(5);
//! let wire = network.open(At::ZERO, ("ann", ()), ("bob", ()));
//! network.send(At::ZERO, wire, Side::Listener, "hello");
//!
//! let at = network.queue.next_at().expect("parcels travel");
//! assert_eq!(at, At::ZERO.after(network.latency));
//! for expected in [Taken::Accepted, Taken::Frames("hello")] {
//!     let parcel = network.queue.pop_due(at).and_then(|parcel| network.arrive(parcel)).expect("nothing stops it");
//!     assert_eq!(network.take(parcel), expected);
//! }
//! ```

mod at;
mod connection;
mod network;
mod queue;

pub use self::{
    at::At,
    connection::{Connection, End, Parcel, Side, Wire},
    network::{DIAL_TIMEOUT, Network, Taken},
    queue::Queue,
};
