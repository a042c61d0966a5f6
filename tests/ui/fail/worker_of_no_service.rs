trait Demo {}

struct Worker;

#[xero::worker]
impl Demo for Worker {}

fn main() {}
