#[derive(serde::Serialize, serde::Deserialize)]
struct DemoClient;

#[xero::service(client = Chat)]
trait Chat {
    async fn say(&self, text: &str);
}

#[xero::service(client = "Session")]
trait Room {
    async fn enter(&self);
}

#[xero::service(client = my::Session)]
trait Hall {
    async fn enter(&self);
}

mod inner {
    #[allow(unused_imports)]
    use super::*;

    #[xero::service]
    trait Demo {
        async fn put(&self, client: Option<DemoClient>);
    }
}

fn main() {
    drop(|client: &xero::Client| RoomClient::new(client).enter());
}
