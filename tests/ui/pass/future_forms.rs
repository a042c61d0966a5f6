//! An impl may return a future of its own instead of being `async`.

#![deny(warnings)]

use std::{future::Future, pin::Pin, sync::Arc};

use xero::IntoService;

#[xero::service]
trait Clock {
    async fn now(&self) -> u64;
}

struct Opaque;
struct Named;
struct Boxed;

#[xero::worker]
impl Clock for Opaque {
    fn now(&self) -> impl Future<Output = u64> + Send {
        async { 1 }
    }
}

#[xero::worker]
#[allow(refining_impl_trait)]
impl Clock for Named {
    fn now(&self) -> std::future::Ready<u64> {
        std::future::ready(2)
    }
}

#[xero::worker]
#[allow(refining_impl_trait)]
impl Clock for Boxed {
    fn now(&self) -> Pin<Box<dyn Future<Output = u64> + Send>> {
        Box::pin(async { 3 })
    }
}

fn serve<M>(_: impl IntoService<M>) {}

fn main() {
    serve(Opaque);
    serve(Named);
    serve(Arc::new(Boxed));
}
