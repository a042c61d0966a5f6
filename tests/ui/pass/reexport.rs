//! `crate = path` finds xero in another crate's namespace, also by a path relative to the module.

#![deny(warnings)]

extern crate xero as hidden;

/// Its name is in the way of `::xero`'s.
mod xero {}

mod framework {
    pub mod rpc {
        pub use hidden::*;
    }
}

#[framework::rpc::service(crate = crate::framework::rpc, name = "Renamed")]
trait Demo {
    async fn ping(&self, text: &str) -> String;
}

struct Worker;

#[framework::rpc::worker(crate = crate::framework::rpc)]
impl Demo for Worker {
    async fn ping(&self, text: &str) -> String {
        text.to_owned()
    }
}

mod inner {
    use super::framework;

    #[framework::rpc::service(crate = super::framework::rpc)]
    pub trait Inner {
        async fn ping(&self, number: u8) -> Result<u8, String>;
    }

    #[framework::rpc::worker(crate = framework::rpc)]
    impl Inner for super::Worker {
        async fn ping(&self, number: u8) -> Result<u8, String> {
            Ok(number)
        }
    }
}

mod imported {
    use super::framework::rpc as rpc_of_ours;

    #[rpc_of_ours::service(crate = rpc_of_ours)]
    pub trait Relative {
        async fn ping(&self) -> u8;
    }

    #[rpc_of_ours::service(crate = self::rpc_of_ours)]
    pub trait FromSelf {
        async fn ping(&self) -> u8;
    }
}

fn main() {
    drop((Worker, |client: &hidden::Client| drop((DemoClient::new(client).ping("a"), inner::InnerClient::new(client)))));
}
