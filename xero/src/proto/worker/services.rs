//! The services that a worker offers, and whether they have the method that a request asks for.

use crate::proto::{
    message::{ErrorCode, Request, ServiceOffer, listed},
    worker::{Refusal, Signature},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Services {
    offers: Vec<ServiceOffer>,
    /// By service and method.
    signatures: Vec<Vec<Signature>>,
}

impl Services {
    pub(super) fn new(offers: Vec<ServiceOffer>, signatures: Vec<Vec<Signature>>) -> Self {
        Self { offers, signatures }
    }

    /// The places of the request's service and method, if the caller's signature fits.
    pub(super) fn find(&self, request: &Request) -> Result<(usize, usize), Refusal> {
        let Some(service) = self.offers.iter().position(|offer| offer.name == request.service) else {
            let known = listed(self.offers.iter().map(|offer| &*offer.name));
            let detail = format!("this worker has no service `{}`; it offers {known}", request.service);
            return Err((ErrorCode::UnknownService, detail));
        };
        let methods = &self.offers[service].methods;
        let Some(method) = methods.iter().position(|offer| offer.name == request.method) else {
            let known = listed(methods.iter().map(|offer| &*offer.name));
            let detail = format!("service `{}` has no method `{}`; it has {known}", request.service, request.method);
            return Err((ErrorCode::UnknownMethod, detail));
        };
        let fingerprint = methods[method].fingerprint;
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
