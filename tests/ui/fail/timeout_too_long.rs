#[xero::service]
trait Demo {
    #[xero(timeout = "100000h")]
    async fn ping(&self);
}

fn main() {}
