//! Trait objects, pointers, and impls for every type: whatever a trait can be implemented for can be served.

#![deny(warnings)]

use std::{pin::Pin, sync::Arc};

use async_trait::async_trait;
use xero::{BoundService, IntoService};

struct Fixed;

/// What `impl`s for every type are for: each module has its own, or a value would have several services.
macro_rules! store {
    () => {
        pub trait Store: Send + Sync + 'static {
            fn number(&self) -> u8;
        }

        pub struct Fixed;

        impl Store for Fixed {
            fn number(&self) -> u8 {
                7
            }
        }
    };
}

fn serve<M>(service: impl IntoService<M>) -> BoundService {
    service.into_bound_service()
}

/// A service that can be an object.
mod object {
    use super::*;

    #[xero::service]
    #[async_trait]
    pub trait Library: Send + Sync {
        async fn number(&self) -> u8;
        async fn twice(&self) -> u8 {
            self.number().await * 2
        }
    }

    #[async_trait]
    impl Library for Fixed {
        async fn number(&self) -> u8 {
            7
        }
    }

    #[xero::worker]
    #[async_trait]
    impl Library for Arc<dyn Library> {
        async fn number(&self) -> u8 {
            (**self).number().await
        }
    }

    #[xero::worker]
    #[async_trait]
    impl Library for Box<dyn Library> {
        async fn number(&self) -> u8 {
            (**self).number().await
        }
    }

    pub fn main() {
        let (shared, boxed): (Arc<dyn Library>, Box<dyn Library>) = (Arc::new(Fixed), Box::new(Fixed));
        serve(Arc::clone(&shared));
        serve(Library::into_service(shared));
        serve(boxed);
        serve(Library::into_service(Arc::<dyn Library>::from(Box::new(Fixed) as Box<dyn Library>)));
    }
}

/// An object without `Send` and `Sync` of its own.
mod plain_object {
    use super::*;

    #[xero::service]
    #[async_trait]
    pub trait Library {
        async fn number(&self) -> u8;
    }

    #[async_trait]
    impl Library for Fixed {
        async fn number(&self) -> u8 {
            7
        }
    }

    pub fn main() {
        let shared: Arc<dyn Library + Send + Sync> = Arc::new(Fixed);
        serve(Library::into_service(shared));
        let boxed: Box<dyn Library> = Box::new(Fixed);
        drop(boxed);
    }
}

macro_rules! library {
    ($module:ident, [$($parameters:tt)*] $type:ty, $value:expr) => {
        mod $module {
            use super::*;

            store!();

            #[xero::service]
            pub trait Library {
                async fn number(&self) -> u8;
            }

            #[xero::worker]
            impl<$($parameters)*> Library for $type {
                async fn number(&self) -> u8 {
                    Store::number(&**self)
                }
            }

            pub fn main() {
                serve($value);
            }
        }
    };
}

library!(any_arc, [T: Store + ?Sized] Arc<T>, Arc::new(Fixed) as Arc<dyn Store>);
library!(object_arc, [] Arc<dyn Store>, Arc::new(Fixed) as Arc<dyn Store>);
library!(any_box, [T: Store + ?Sized] Box<T>, Arc::new(Box::new(Fixed)));
library!(any_reference, [T: Store] &'static T, Arc::new(&Fixed));
library!(any_pin, [T: Store] Pin<Box<T>>, Arc::new(Box::pin(Fixed)));
library!(reference, [] &'static Fixed, &Fixed);
library!(one_box, [] Box<Fixed>, Box::new(Fixed));

/// For every type, also those without a size.
mod blanket {
    use super::*;

    store!();

    #[xero::service]
    pub trait Library {
        async fn number(&self) -> u8;
    }

    #[xero::worker]
    impl<T> Library for T
    where
        T: Store + ?Sized,
    {
        async fn number(&self) -> u8 {
            Store::number(self)
        }
    }

    pub fn main() {
        serve(Arc::new(Fixed));
        serve(Arc::new(Fixed) as Arc<dyn Store>);
    }
}

/// For an object itself.
mod unsized_object {
    use super::*;

    store!();

    #[xero::service]
    pub trait Library {
        async fn number(&self) -> u8;
    }

    #[xero::worker]
    impl Library for dyn Store {
        async fn number(&self) -> u8 {
            Store::number(self)
        }
    }

    pub fn main() {
        serve(Arc::new(Fixed) as Arc<dyn Store>);
    }
}

fn main() {
    object::main();
    plain_object::main();
    any_arc::main();
    object_arc::main();
    any_box::main();
    any_reference::main();
    any_pin::main();
    reference::main();
    one_box::main();
    blanket::main();
    unsized_object::main();
}
