#[xero::worker]
fn ping() {}

fn main() {
    ping();
}
