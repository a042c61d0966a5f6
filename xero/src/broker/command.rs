//! What handles ask of a broker's I/O thread.

use tokio::sync::oneshot;

use crate::proto::broker::BrokerCounters;

/// What handles ask of the I/O thread.
#[derive(Debug)]
pub(crate) enum Command {
    Counters(oneshot::Sender<BrokerCounters>),
    Drain,
    Close,
}
