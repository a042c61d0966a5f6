#[xero::service]
trait Demo {
    async fn depth(&self, number: u32) -> u32;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn depth(&self, number: u32) -> u32 {
        if number == 0 { 0 } else { self.depth(number - 1).await }
    }
}

fn main() {}
