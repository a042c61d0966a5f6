#[xero::service]
trait Demo {
    async fn sum(&self, first: u64, rest: ...) -> u64;
}

fn main() {}
