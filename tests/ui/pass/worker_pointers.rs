//! Impls that hand a service on to what a pointer or wrapper holds, beside an impl for a type of their own.

#![deny(warnings)]

use std::{
    borrow::Cow,
    sync::{Arc, Mutex},
};

use xero::{BoundService, IntoService};

#[xero::service]
trait Library {
    async fn count(&self, text: &str) -> usize;
}

struct Fixed;

#[xero::worker]
impl Library for Fixed {
    async fn count(&self, text: &str) -> usize {
        text.len()
    }
}

#[xero::worker]
impl<T: Library + Send + Sync + 'static> Library for Arc<T> {
    async fn count(&self, text: &str) -> usize {
        (**self).count(text).await
    }
}

struct Wrapper<T>(T);

#[xero::worker]
impl<T> Library for Wrapper<T>
where
    T: Library + Send + Sync + 'static,
{
    async fn count(&self, text: &str) -> usize {
        self.0.count(text).await
    }
}

#[xero::worker]
impl<T: Clone + Send + Sync + 'static> Library for Cow<'static, T> {
    async fn count(&self, text: &str) -> usize {
        text.len()
    }
}

#[xero::worker]
impl<T: Send + 'static> Library for Mutex<T> {
    async fn count(&self, text: &str) -> usize {
        text.len()
    }
}

/// The macro sees no `Arc`.
mod alias {
    use super::*;

    type Shared<T> = Arc<T>;

    #[xero::service]
    pub trait Library {
        async fn count(&self, text: &str) -> usize;
    }

    #[xero::worker]
    impl<T: Library + Send + Sync + 'static> Library for Shared<T> {
        async fn count(&self, text: &str) -> usize {
            (**self).count(text).await
        }
    }
}

fn serve<M>(service: impl IntoService<M>) -> BoundService {
    service.into_bound_service()
}

fn main() {
    serve(Fixed);
    serve(Arc::new(Fixed));
    serve(Arc::new(Arc::new(Fixed)));
    serve(Wrapper(Fixed));
    serve(Wrapper(Arc::new(Fixed)));
    serve(Arc::new(Wrapper(Fixed)));
    serve(Cow::<'static, u8>::Owned(3));
    serve(Mutex::new(3));
    serve(Arc::new(Mutex::new(3)));
}
