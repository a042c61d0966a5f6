//! A private service of which one side is used, or neither, warns of nothing.

#![deny(warnings)]

#[xero::service]
trait Called {
    async fn ping(&self) -> u8;
}

#[xero::service]
trait Served {
    async fn ping(&self, number: u8) -> u8;
}

struct Worker;

#[xero::worker]
impl Served for Worker {
    async fn ping(&self, number: u8) -> u8 {
        number
    }
}

fn main() {
    #[xero::service]
    trait Local {
        async fn ping(&self, number: Number) -> u8;
    }

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Number(u8);

    #[xero::worker]
    impl Local for Number {
        async fn ping(&self, number: Number) -> u8 {
            number.0
        }
    }

    drop((Worker, Number(1), |client: &xero::Client| CalledClient::new(client).ping()));
}
