//! One type that implements two services says which one is served; one trait may be served by several types.

#![deny(warnings)]

use std::sync::Arc;

use xero::{BoundService, IntoService};

#[xero::service]
trait First {
    async fn same(&self) -> u8;
}

#[xero::service]
trait Second {
    async fn same(&self) -> u16;
}

struct Both;
struct Other;

#[xero::worker]
impl First for Both {
    async fn same(&self) -> u8 {
        1
    }
}

#[xero::worker]
impl Second for Both {
    async fn same(&self) -> u16 {
        2
    }
}

#[xero::worker]
impl First for Other {
    async fn same(&self) -> u8 {
        3
    }
}

/// An impl without the attribute can be served too.
struct Plain;

impl First for Plain {
    async fn same(&self) -> u8 {
        4
    }
}

fn serve<M>(service: impl IntoService<M>) -> BoundService {
    service.into_bound_service()
}

fn main() {
    let both = Arc::new(Both);
    serve(First::into_service(Arc::clone(&both)));
    serve(Second::into_service(both));
    serve(Other);
    serve(Arc::new(Other));
    serve(First::into_service(Arc::new(Plain)));
}
