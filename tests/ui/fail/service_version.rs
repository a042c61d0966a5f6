#[xero::service(version = "2")]
trait Demo {
    async fn ping(&self);
}

#[xero::service(version = 4294967296)]
trait Other {
    async fn ping(&self);
}

fn main() {}
