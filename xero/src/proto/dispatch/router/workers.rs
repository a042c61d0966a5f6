//! The workers of a router: they join, change what they offer, and leave.

use std::{collections::BTreeSet, time::Instant};

use super::Router;
use crate::proto::{
    dispatch::{Output, changes::Pending},
    exits::Exits,
    fault::{Fault, planted},
    link::Departure,
    links::End,
    message::{ErrorCode, ErrorReply, Message, OfferChange, Peer, Ready},
    registry::{Offer, OfferCost},
    retry::Setback,
};

impl Router {
    /// Registers a worker with its offer, or replaces that of a registered one.
    pub(in crate::proto::dispatch) fn register(
        &mut self,
        now: Instant,
        exits: &mut Exits<Output>,
        peer: Peer,
        ready: &Ready,
        offer: Offer,
    ) {
        if self.placement.registry.renew(peer, ready) {
            self.changes.replace(peer, offer);
            self.follow_credits(now, exits, peer);
            return self.make_changes(now, exits);
        }
        self.placement.registry.register(now, peer, ready, offer);
        self.follow_offer_of(now, exits, peer);
    }

    /// Changes the offer of a registered worker, now or soon.
    pub(in crate::proto::dispatch) fn change_offer(
        &mut self,
        now: Instant,
        exits: &mut Exits<Output>,
        peer: Peer,
        change: OfferChange,
    ) {
        if self.placement.registry.get(peer).is_none() {
            return;
        }
        match self.changes.change(peer, change, &self.limits) {
            Ok(()) => self.make_changes(now, exits),
            Err(detail) => exits.links.reject(now, peer, detail),
        }
    }

    /// Makes the changes of offers that are due.
    pub(in crate::proto::dispatch) fn make_changes(&mut self, now: Instant, exits: &mut Exits<Output>) {
        while let Some((peer, pending)) = self.changes.next(now) {
            self.make_change(now, exits, peer, pending);
        }
    }

    /// Makes a worker's changes before its error about them: that concerns the offer that the worker has now.
    pub(in crate::proto::dispatch) fn explain(
        &mut self,
        now: Instant,
        exits: &mut Exits<Output>,
        from: Peer,
        reply: &ErrorReply,
    ) {
        let codes = [ErrorCode::NoWorker, ErrorCode::UnknownMethod, ErrorCode::UnknownService];
        if codes.contains(&reply.code)
            && self.has_request(from, reply.call)
            && let Some(pending) = self.changes.take(from)
        {
            self.make_change(now, exits, from, pending);
        }
    }

    fn make_change(&mut self, now: Instant, exits: &mut Exits<Output>, peer: Peer, pending: Pending) {
        let (offer, change) = pending.into_parts();
        match self.placement.registry.change_offer(peer, offer, change) {
            Ok(OfferCost { is_other, methods }) => {
                let places = if is_other { self.follow_offer_of(now, exits, peer) } else { 0 };
                self.changes.note_cost(now, methods + places);
            }
            // Without this change, the rest of the offer would be another one than the sender's.
            Err(detail) => exits.links.reject(now, peer, detail),
        }
    }

    fn follow_offer_of(&mut self, now: Instant, exits: &mut Exits<Output>, peer: Peer) -> usize {
        exits.report(Output::WorkerJoined(peer));
        let places = self.follow_offers(now, exits);
        self.serve_waiting(now, exits, peer);
        places
    }

    /// Removes a worker. Its requests go elsewhere, or fail.
    pub(in crate::proto::dispatch) fn remove_worker(
        &mut self,
        now: Instant,
        exits: &mut Exits<Output>,
        peer: Peer,
        end: &End,
    ) {
        self.changes.take(peer);
        let Some(worker) = self.placement.registry.remove(peer) else { return };
        let unsent: BTreeSet<_> = end.unsent.iter().filter_map(Message::request).collect();
        exits.report(Output::WorkerLeft(peer, end.departure));
        // Before its goodbye, a draining worker ends all requests that it has read; the others it has not read (§10).
        let is_drained = end.departure == Departure::Goodbye && end.was_draining;
        for (id, wanted) in worker.in_flight {
            let setback = match is_drained || unsent.contains(&id) {
                true => Setback::NotStarted,
                false => Setback::MaybeExecuted,
            };
            if wanted && !planted(Fault::LostRequestsForgotten) {
                self.lose_worker_of(now, exits, id, setback);
            }
        }
        self.follow_offers(now, exits);
    }

    pub(in crate::proto::dispatch) fn set_credits(
        &mut self,
        now: Instant,
        exits: &mut Exits<Output>,
        peer: Peer,
        credits: u32,
    ) {
        self.placement.registry.set_credits(peer, credits);
        self.follow_credits(now, exits, peer);
    }

    fn follow_credits(&mut self, now: Instant, exits: &mut Exits<Output>, peer: Peer) {
        exits.report(Output::WorkerChanged(peer));
        self.follow_offers(now, exits);
        self.serve_waiting(now, exits, peer);
    }

    pub(in crate::proto::dispatch) fn set_draining(&mut self, now: Instant, exits: &mut Exits<Output>, peer: Peer) {
        self.placement.registry.set_draining(peer);
        exits.report(Output::WorkerChanged(peer));
        self.follow_offers(now, exits);
    }

    /// Sets whether the worker's connection may be dead.
    pub(in crate::proto::dispatch) fn set_doubted(
        &mut self,
        now: Instant,
        exits: &mut Exits<Output>,
        peer: Peer,
        is_doubted: bool,
    ) {
        self.placement.registry.set_doubted(peer, is_doubted);
        if !is_doubted {
            self.serve_waiting(now, exits, peer);
        }
    }

    /// Handles an acknowledgement of a worker: its window may have room again.
    pub(in crate::proto::dispatch) fn note_room(&mut self, now: Instant, exits: &mut Exits<Output>, peer: Peer) {
        self.placement.registry.note_room(peer);
        self.serve_waiting(now, exits, peer);
    }
}
