trait Demo {}

struct Worker;

#[xero::service]
impl Demo for Worker {}

fn main() {}
