//! The state of a generated client: a client and the service it calls.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{call::Call, handle::Client, method::Method};
use crate::{codec, error::NoWorkerError, proto::message::Codec, wire::Carries, worker::ServiceDescriptor};

/// The part of a generated client that is the same for every service.
#[derive(Clone, Debug)]
pub struct Stub {
    client: Client,
    descriptor: &'static ServiceDescriptor,
    methods: Arc<[Method]>,
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
        Self { client: client.clone(), descriptor, methods: methods.collect() }
    }

    /// Chooses the codec of later calls.
    #[must_use]
    pub fn with_codec(self, codec: Codec) -> Self {
        Self { client: self.client.with_codec(codec), ..self }
    }

    /// Limits the time of later calls.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { client: self.client.with_timeout(timeout), ..self }
    }

    /// Has later calls fail at once if no worker can take them.
    #[must_use]
    pub fn with_fail_fast(self) -> Self {
        Self { client: self.client.with_fail_fast(), ..self }
    }

    /// Sends a value beside the arguments of later calls.
    #[must_use]
    pub fn with_metadata(self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self { client: self.client.with_metadata(key, value), ..self }
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
        let (caller, defaults, codec) = (self.client.caller(), self.client.defaults(), self.client.codec());
        let payload = codec::encode_arguments::<O, A>(codec, arguments);
        Call::typed::<MV, ME>(caller, defaults, self.methods[method].clone(), payload, codec)
            .declared(descriptor.idempotent, defaults.timeout.or(descriptor.timeout))
    }
}
