#[xero::service]
pub trait Chat {
    async fn say(&self, text: &str);
}

#[xero::service]
pub trait ChatClient {
    async fn hear(&self, text: &str);
}

fn main() {}
