//! The connected workers, as clients and brokers list them.

use uuid::Uuid;

use crate::proto::dispatch::WorkerStatus;

/// A connected worker; for a client that connects, a broker.
///
/// A broker stands for all of its workers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// The incarnation of its process.
    pub id: Uuid,
    /// The offered services, sorted; for a broker, those of all its workers.
    pub services: Vec<String>,
    /// The number of requests that it takes at once.
    pub credits: u32,
}

impl WorkerInfo {
    /// The public view of a worker; `None` if it drains, because it takes no more calls.
    pub(crate) fn of(worker: WorkerStatus<'_>) -> Option<Self> {
        (!worker.is_draining()).then(|| Self {
            id: worker.incarnation(),
            services: worker.services().map(|name| name.to_string()).collect(),
            credits: worker.credits(),
        })
    }

    /// Whether it offers the service, or anything at all.
    pub(crate) fn offers(&self, service: Option<&str>) -> bool {
        self.services.iter().any(|offered| service.is_none_or(|service| offered == service))
    }
}
