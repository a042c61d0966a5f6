//! Accepts connections and makes their handshakes, apart from the connections that work.

use std::{collections::VecDeque, convert::Infallible, io, pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::future::select;
use tokio::{
    sync::{mpsc, oneshot},
    task::yield_now,
    time::{sleep, timeout},
};
use tracing::debug;

use super::{
    connection::{Connection, Opened},
    engine::{Limits, Role},
    stream::{Listener, Stream},
};

/// Accepts until dropped. Connections whose handshake is complete go to `opened`.
pub(super) async fn accept(listener: Listener, limits: Limits, opened: mpsc::Sender<Opened>) {
    let mut handshakes = Handshakes { ends: VecDeque::new(), limits, opened };
    for accepted in 1_u64.. {
        match listener.accept().await {
            Ok(stream) => handshakes.start(stream),
            // The peer has gone already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // Mostly a shortage of file descriptors, which repeats at once until one is closed.
            Err(error) => {
                debug!(%error, "a connection was not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
        if accepted.is_multiple_of(ACCEPTS_MAX) {
            yield_now().await;
        }
    }
}

/// Handshakes in progress. They end with their owner.
struct Handshakes {
    /// One for each, oldest first: its drop ends the handshake. A handle of the task would keep its memory, also once it
    /// has ended, for as long as an older one is in progress.
    ends: VecDeque<oneshot::Sender<Infallible>>,
    limits: Limits,
    opened: mpsc::Sender<Opened>,
}

impl Handshakes {
    fn start(&mut self, stream: Stream) {
        while self.ends.front().is_some_and(oneshot::Sender::is_closed) {
            self.ends.pop_front();
        }
        // The oldest makes way: a healthy one takes a few round trips, a stranger's as long as it may.
        if self.ends.len() >= HANDSHAKES_MAX {
            self.ends.retain(|end| !end.is_closed());
        }
        if self.ends.len() >= HANDSHAKES_MAX {
            self.ends.pop_front();
        }
        let (limits, opened) = (self.limits, self.opened.clone());
        let (end, ended) = oneshot::channel();
        self.ends.push_back(end);
        tokio::spawn(async move {
            let handshake = pin!(async {
                match Connection::open(stream, Role::Router, Bytes::new(), limits).await {
                    // An error means that the socket is closed.
                    Ok(connection) => drop(opened.send(connection).await),
                    Err(error) => debug!(%error, "a handshake has failed"),
                }
            });
            if timeout(HANDSHAKE_TIMEOUT, select(ended, handshake)).await.is_err() {
                debug!("a handshake was not completed in time");
            }
        });
    }
}

/// The pause after a failed accept: long enough not to spin, short enough to go unnoticed by who waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The most connections that are accepted in a row, so that a flood of them delays no others.
const ACCEPTS_MAX: u64 = 16;

/// The most handshakes in progress: four times the listener's backlog, and about 8 MiB.
const HANDSHAKES_MAX: usize = 4096;

/// The time limit of a handshake: several retransmissions of a lost packet.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The most connections that wait for their socket to look at them.
pub(super) const OPENED_MAX: usize = 256;
