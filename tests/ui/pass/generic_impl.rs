//! An impl with type, lifetime and const parameters; it can be served where its type can be shared.

#![deny(warnings)]

use std::{marker::PhantomData, sync::Arc};

use xero::IntoService;

#[xero::service]
trait Shop {
    async fn price(&self, name: &str) -> u64;
}

trait Store {
    fn price(&self, name: &str) -> u64;
}

struct Fixed;

impl Store for Fixed {
    fn price(&self, name: &str) -> u64 {
        name.len() as u64
    }
}

struct Cached<T, const SIZE: usize> {
    store: T,
}

#[xero::worker]
impl<T: Store, const SIZE: usize> Shop for Cached<T, SIZE>
where
    T: Send + Sync,
{
    async fn price(&self, name: &str) -> u64 {
        self.store.price(name) + SIZE as u64
    }
}

struct Borrowing<'a>(&'a str);

#[xero::worker]
impl<'a> Shop for Borrowing<'a> {
    async fn price(&self, _name: &str) -> u64 {
        self.0.len() as u64
    }
}

struct Typed<T>(PhantomData<fn() -> T>);

#[xero::worker]
impl Shop for Typed<u8> {
    async fn price(&self, _name: &str) -> u64 {
        8
    }
}

#[xero::worker]
impl Shop for Typed<u16> {
    async fn price(&self, _name: &str) -> u64 {
        16
    }
}

#[xero::worker]
impl Shop for Box<dyn Store + Send + Sync> {
    async fn price(&self, name: &str) -> u64 {
        self.as_ref().price(name)
    }
}

fn serve<M>(_: impl IntoService<M>) {}

fn main() {
    serve(Cached::<_, 3> { store: Fixed });
    serve(Arc::new(Cached::<_, 3> { store: Fixed }));
    serve(Borrowing("static"));
    serve(Typed::<u8>(PhantomData));
    serve(Typed::<u16>(PhantomData));
    serve(Box::new(Fixed) as Box<dyn Store + Send + Sync>);
}
