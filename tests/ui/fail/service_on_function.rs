#[xero::service]
async fn ping() {}

fn main() {
    drop(ping());
}
