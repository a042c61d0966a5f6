//! What a side offers, who suits a call, and what a broker must announce.

use std::time::{Duration, Instant};

use xero::proto::{
    broker::Door,
    message::{Codec, ErrorCode, Message, MethodOffer, OfferChange, Ready, ServiceOffer},
};

use super::{rest::is_up, *};
use crate::{
    process::Process,
    scenario::{CallPlan, Role, SERVICES},
};

/// An offer, as its reader knows it.
#[derive(Debug, Default)]
pub(super) struct Offer {
    services: Vec<ServiceOffer>,
    codecs: Vec<Codec>,
    payload_bytes_max: u64,
    /// Whether it has had credits.
    was_callable: bool,
    /// When it was last read, and what it was before in that turn: requests of the same turn may still go by that.
    read_at: Option<Instant>,
    earlier: Vec<Self>,
}

impl Offer {
    pub(super) fn read(&mut self, now: Instant, ready: &Ready) {
        self.replace(Self {
            read_at: Some(now),
            earlier: Vec::new(),
            services: ready.services.clone(),
            codecs: ready.codecs.clone(),
            payload_bytes_max: ready.payload_bytes_max,
            was_callable: ready.credits > 0,
        });
    }

    /// Counts by hand what the machines count by their own rule.
    pub(super) fn change(&mut self, now: Instant, change: OfferChange) {
        let mut services = self.services.clone();
        services.retain(|service| !change.withdrawn.contains(&service.name));
        services.retain(|service| change.changed.iter().all(|other| other.name != service.name));
        services.extend(change.changed);
        let codecs = self.codecs.clone();
        self.replace(Self { read_at: Some(now), earlier: Vec::new(), services, codecs, ..*self });
    }

    fn replace(&mut self, next: Self) {
        let mut former = std::mem::replace(self, next);
        self.earlier = std::mem::take(&mut former.earlier);
        if former.read_at != self.read_at {
            self.earlier.clear();
        }
        self.earlier.push(former);
    }

    pub(super) fn is_callable(&self) -> bool {
        self.was_callable
    }

    pub(super) fn has_service(&self, plan: &CallPlan) -> bool {
        self.services.iter().any(|offer| &*offer.name == plan.service)
    }

    fn method(&self, plan: &CallPlan) -> Option<&MethodOffer> {
        method_of(&self.services, plan)
    }

    /// Whether it says that the method may run twice.
    pub(super) fn declares(&self, plan: &CallPlan) -> bool {
        self.method(plan).is_some_and(|method| method.idempotent)
    }

    /// The same, now or before this turn.
    pub(super) fn declared(&self, now: Instant, plan: &CallPlan) -> bool {
        let is_new = self.read_at == Some(now);
        self.declares(plan) || is_new && self.earlier.iter().any(|earlier| earlier.declares(plan))
    }

    pub(super) fn reads(&self, codec: Codec) -> bool {
        self.codecs.contains(&codec)
    }

    pub(super) fn takes(&self, bytes: u64) -> bool {
        bytes <= self.payload_bytes_max
    }

    /// How well it suits a call: by its signature first, then by its limit; `None` for not at all.
    pub(super) fn grade(&self, plan: &CallPlan, must_declare: bool) -> Option<(bool, u64)> {
        let method = self.method(plan)?;
        let can = self.reads(plan.codec) && (method.idempotent || !must_declare);
        let fits = plan.fingerprint == 0 || method.fingerprint == 0 || plan.fingerprint == method.fingerprint;
        let takes = self.takes(plan.work.payload_bytes());
        can.then_some((fits, if takes { u64::MAX } else { self.payload_bytes_max }))
    }
}

/// The method that a call names.
pub(super) fn method_of<'a>(services: &'a [ServiceOffer], plan: &CallPlan) -> Option<&'a MethodOffer> {
    let service = services.iter().find(|offer| &*offer.name == plan.service)?;
    service.methods.iter().find(|offer| &*offer.name == plan.method)
}

impl Ledger {
    /// Notes what a broker announces to a client, and why it may.
    pub(super) fn note_announcement(&mut self, wire: Wire, from: Side, now: Instant, message: &Message) {
        let record = &mut self.wires[wire];
        if from == record.caller || record.caller == Side::Listener {
            return;
        }
        match message {
            Message::Ready(_) | Message::Offer(_) if record.sides[from as usize].is_introduced => {
                record.announced.push(now);
            }
            Message::Error(error) if [ErrorCode::NoWorker, ErrorCode::UnknownMethod].contains(&error.code) => {
                record.gave_back.push(now);
            }
            _ => return,
        }
        record.announced.retain(|at| *at + OFFERS_PAUSE > now);
        record.gave_back.retain(|at| *at + OFFERS_PAUSE > now);
    }

    /// Checks that a broker bundles what it announces: in a pause, a client gets one introduction, one that had no room
    /// before, and one for each call that is given back.
    pub(super) fn check_pace(&self, wire: Wire) -> Result<(), String> {
        let record = &self.wires[wire];
        let count = record.announced.len();
        match count > 2 + record.gave_back.len() && !record.is_hostile {
            true => Err(format!("introduces itself {count} times in {OFFERS_PAUSE:?} on connection {wire}")),
            false => Ok(()),
        }
    }

    /// Checks that clients know what the workers of their brokers agree on, and nothing of those that nobody can call.
    pub(crate) fn check_offers(&self, processes: &[Process]) -> Result<(), String> {
        let brokers = processes.iter().filter(|process| process.setup.role == Role::Broker);
        for broker in brokers {
            // A connection that was lost before its introduction exists for nobody.
            let is_whole = |wire: &&Wire| self.wires[**wire].sides.iter().all(is_up);
            let wires = |door| broker.sockets.iter().filter(move |((own, _), _)| *own == door).map(|(_, wire)| wire);
            let offers = wires(Door::Back).filter(is_whole).map(|wire| &self.wires[*wire].offer);
            let offers: Vec<_> = offers.filter(|offer| offer.is_callable()).map(|offer| &*offer.services).collect();
            let (expected, versions) = (merged(&offers), latest(&offers));
            for wire in wires(Door::Front).filter(is_whole) {
                let services = &self.wires[*wire].offer.services;
                check_offer(services, &expected)
                    .and_then(|()| check_versions(services, &versions))
                    .map_err(|what| format!("{broker} announces {what} on connection {wire}"))?;
            }
        }
        Ok(())
    }
}

/// The shortest pause between two announcements.
pub(super) const OFFERS_PAUSE: Duration = Duration::from_millis(100);

/// The declarations of each method, by all who offer it: whether it may run twice, and its fingerprint or 0.
type Merged<'a> = BTreeMap<(&'a str, &'a str), (bool, u64)>;

fn merged<'a>(offers: &[&'a [ServiceOffer]]) -> Merged<'a> {
    let mut merged = Merged::new();
    for service in offers.iter().copied().flatten() {
        for method in &service.methods {
            let declared = (method.idempotent, method.fingerprint);
            let entry = merged.entry((&service.name, &method.name)).or_insert(declared);
            let fingerprint = if entry.1 == declared.1 { entry.1 } else { 0 };
            *entry = (entry.0 && declared.0, fingerprint);
        }
    }
    merged
}

/// The latest version of each service.
fn latest<'a>(offers: &[&'a [ServiceOffer]]) -> BTreeMap<&'a str, u32> {
    let mut latest = BTreeMap::<&str, u32>::new();
    for service in offers.iter().copied().flatten() {
        let version = latest.entry(&service.name).or_default();
        *version = service.version.max(*version);
    }
    latest
}

fn check_versions(services: &[ServiceOffer], latest: &BTreeMap<&str, u32>) -> Result<(), String> {
    let is_wrong = |service: &&ServiceOffer| latest.get(&*service.name) != Some(&service.version);
    match services.iter().find(is_wrong) {
        Some(service) => Err(format!("version {} of {}, which is none of {latest:?}", service.version, service.name)),
        None => Ok(()),
    }
}

fn check_offer(services: &[ServiceOffer], expected: &Merged<'_>) -> Result<(), String> {
    let mut missing: BTreeSet<_> = expected.keys().filter(|(service, _)| SERVICES.contains(service)).collect();
    for (service, method) in services.iter().flat_map(|service| service.methods.iter().map(move |m| (service, m))) {
        let names = (&*service.name, &*method.name);
        if expected.get(&names) != Some(&(method.idempotent, method.fingerprint)) {
            let known = expected.get(&names);
            return Err(format!("{}.{method:?}, and its workers say {known:?}", service.name));
        }
        missing.remove(&names);
    }
    if missing.is_empty() { Ok(()) } else { Err(format!("all but {missing:?}")) }
}
