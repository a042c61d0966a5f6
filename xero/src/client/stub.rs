//! The state of a generated client: a client and the service it calls.

use std::{sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::{call::Call, handle::Client, method::Method};
use crate::{codec, error::NoWorkerError, proto::message::Codec, wire::Carries, worker::ServiceDescriptor};

/// The part of a generated client that is the same for every service.
#[derive(Clone, Debug)]
pub struct Stub {
    client: Client,
    descriptor: &'static ServiceDescriptor,
    methods: Arc<[Method]>,
    codec: Codec,
}

impl Stub {
    /// Calls the service through the client.
    pub fn new(client: &Client, descriptor: &'static ServiceDescriptor) -> Self {
        let service: Arc<str> = descriptor.name.into();
        let methods = descriptor.methods.iter().map(|method| Method {
            service: Arc::clone(&service),
            name: method.name.into(),
            fingerprint: method.fingerprint,
            signature: method.signature,
            version: descriptor.version,
        });
        Self { client: client.clone(), descriptor, methods: methods.collect(), codec: client.caller().codec() }
    }

    /// Chooses the codec of later calls.
    #[must_use]
    pub fn with_codec(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }

    /// Waits for a worker that offers the service.
    ///
    /// # Errors
    /// When none has connected in time.
    pub async fn wait_for_worker(&self, timeout: Duration) -> Result<(), NoWorkerError> {
        self.client.wait_for_service(self.descriptor.name, timeout).await
    }

    /// Prepares a call of the method with that index.
    ///
    /// `O` is the owned twin of the arguments, which a worker reads; `MV` and `ME` are the forms of value and error.
    pub fn call<O, MV, ME, A, T, E>(&self, method: usize, arguments: &A) -> Call<T, E>
    where
        O: Serialize + DeserializeOwned + 'static,
        MV: Carries<T>,
        ME: Carries<E>,
        A: Serialize,
    {
        let descriptor = &self.descriptor.methods[method];
        let payload = codec::encode_arguments::<O, A>(self.codec, arguments);
        Call::typed::<MV, ME>(self.client.caller(), self.methods[method].clone(), payload, self.codec)
            .declared(descriptor.idempotent, descriptor.timeout)
    }
}
