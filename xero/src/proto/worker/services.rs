//! The services that a worker offers, and whether they have the method that a request asks for.

use std::{collections::BTreeMap, sync::Arc};

use crate::proto::{
    message::{ErrorCode, Request, ServiceOffer, listed},
    worker::{Refusal, Signature},
};

/// The places of methods in a service.
type Places = BTreeMap<Arc<str>, usize>;

/// See the module.
#[derive(Debug)]
pub(super) struct Services {
    offers: Vec<ServiceOffer>,
    /// The places of services by name, and those of their methods.
    places: BTreeMap<Arc<str>, (usize, Places)>,
    /// By service and method.
    signatures: Vec<Vec<Signature>>,
}

impl Services {
    pub(super) fn new(offers: Vec<ServiceOffer>, signatures: Vec<Vec<Signature>>) -> Self {
        let methods = |offer: &ServiceOffer| {
            let names = offer.methods.iter().map(|method| Arc::clone(&method.name));
            names.zip(0..).collect()
        };
        let services = offers.iter().enumerate();
        let places = services.map(|(place, offer)| (Arc::clone(&offer.name), (place, methods(offer)))).collect();
        Self { offers, places, signatures }
    }

    /// The places of the request's service and method, if the caller's signature fits.
    pub(super) fn find(&self, request: &Request) -> Result<(usize, usize), Refusal> {
        let Some((service, methods)) = self.places.get(&request.service) else {
            let known = listed(self.offers.iter().map(|offer| &*offer.name));
            let detail = format!("this worker has no service `{}`; it offers {known}", request.service);
            return Err((ErrorCode::UnknownService, detail));
        };
        let (service, offers) = (*service, &self.offers[*service].methods);
        let Some(method) = methods.get(&request.method).copied() else {
            let known = listed(offers.iter().map(|offer| &*offer.name));
            let detail = format!("service `{}` has no method `{}`; it has {known}", request.service, request.method);
            return Err((ErrorCode::UnknownMethod, detail));
        };
        let fingerprint = offers[method].fingerprint;
        let checked = !request.payload.codec.is_self_describing() && request.fingerprint != 0 && fingerprint != 0;
        let signature = self.signatures.get(service).and_then(|signatures| signatures.get(method));
        let is_older = signature.is_some_and(|signature| signature.older.contains(&request.fingerprint));
        if checked && request.fingerprint != fingerprint && !is_older {
            let text = signature.map(|signature| signature.text.clone());
            return Err((ErrorCode::SignatureMismatch, text.unwrap_or_default()));
        }
        Ok((service, method))
    }
}
