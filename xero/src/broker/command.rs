//! Commands from handles to a broker's I/O thread.

use tokio::sync::oneshot;

use crate::proto::broker::BrokerCounters;

/// A command to the I/O thread.
#[derive(Debug)]
pub(crate) enum Command {
    Counters(oneshot::Sender<BrokerCounters>),
    Drain,
    Close,
}
