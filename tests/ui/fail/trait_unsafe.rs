#[xero::service]
unsafe trait Demo {
    async fn ping(&self);
}

fn main() {}
