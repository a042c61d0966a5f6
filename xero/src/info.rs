//! What clients and brokers show of the workers that are connected to them.

use uuid::Uuid;

use crate::proto::dispatch::WorkerStatus;

/// A worker that is connected to a client or broker; or a broker that a client is connected to, which stands for all of
/// its workers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// This life of its process.
    pub id: Uuid,
    /// The services it offers, sorted; of a broker, what all of its workers offer.
    pub services: Vec<String>,
    /// How many requests it takes at once.
    pub credits: u32,
}

impl WorkerInfo {
    /// What there is to tell of a worker. One that drains takes no call any more, so it is as good as gone.
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
