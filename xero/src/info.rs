//! The connected workers, as clients and brokers list them.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    io::{
        errands::{Errand, Errands},
        panics,
    },
    proto::{dispatch::WorkerStatus, message::Peer},
};

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

/// The listed workers, oldest connection first. A reader shares the entries, so it holds the lock only briefly.
pub(crate) type Workers = BTreeMap<Peer, Arc<WorkerInfo>>;

/// The I/O thread's end of the list: it publishes only differences, because there may be thousands of workers.
#[derive(Debug)]
pub(crate) struct WorkerList {
    sender: watch::Sender<Workers>,
    changed: BTreeSet<Peer>,
}

impl WorkerList {
    pub(crate) fn new() -> (Self, watch::Receiver<Workers>) {
        let (sender, receiver) = watch::channel(Workers::new());
        (Self { sender, changed: BTreeSet::new() }, receiver)
    }

    /// Notes that the worker has joined, changed or left.
    pub(crate) fn note(&mut self, peer: Peer) {
        self.changed.insert(peer);
    }

    /// Publishes the current state of the noted workers; `None` for one that takes no more calls.
    pub(crate) fn publish(&mut self, errands: &mut Errands<impl Errand>, info_of: impl Fn(Peer) -> Option<WorkerInfo>) {
        if self.changed.is_empty() {
            return;
        }
        let news = mem::take(&mut self.changed).into_iter();
        let news: Vec<_> = news.map(|peer| (peer, info_of(peer).map(Arc::new))).collect();
        let sender = self.sender.clone();
        errands.add_code(move || {
            panics::wake(|| {
                sender.send_modify(|workers| {
                    for (peer, info) in news {
                        match info {
                            Some(info) => drop(workers.insert(peer, info)),
                            None => drop(workers.remove(&peer)),
                        }
                    }
                });
            });
        });
    }
}

/// A copy of the list.
pub(crate) fn list_of(workers: &watch::Receiver<Workers>) -> Vec<WorkerInfo> {
    let shared: Vec<_> = workers.borrow().values().cloned().collect();
    shared.iter().map(|worker| WorkerInfo::clone(worker)).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::io::errands::Code;

    #[test]
    fn only_noted_workers_are_looked_at_and_the_oldest_connection_is_first() {
        let (mut list, workers) = WorkerList::new();
        let publish = |list: &mut WorkerList, info_of: &dyn Fn(Peer) -> Option<WorkerInfo>| {
            let mut errands = Errands::<Code>::new();
            list.publish(&mut errands, info_of);
            errands.run();
        };
        let info = |credits| WorkerInfo { id: Uuid::nil(), services: vec!["Demo".to_owned()], credits };
        let credits = |workers| list_of(workers).iter().map(|worker| worker.credits).collect::<Vec<_>>();
        (0..1_000).rev().for_each(|peer| list.note(Peer(peer)));
        publish(&mut list, &|peer| Some(info(peer.0 as u32)));
        assert_eq!(credits(&workers), (0..1_000).collect::<Vec<_>>());

        let asked = RefCell::new(Vec::new());
        [7, 3, 7].into_iter().for_each(|peer| list.note(Peer(peer)));
        publish(&mut list, &|peer| {
            asked.borrow_mut().push(peer);
            (peer == Peer(3)).then(|| info(5_000))
        });
        assert_eq!(asked.take(), [Peer(3), Peer(7)]);
        let expected = (0..1_000).filter(|peer| *peer != 7).map(|peer| if peer == 3 { 5_000 } else { peer });
        assert_eq!(credits(&workers), expected.collect::<Vec<_>>());

        publish(&mut list, &|_| unreachable!("nothing was noted since"));
    }
}
