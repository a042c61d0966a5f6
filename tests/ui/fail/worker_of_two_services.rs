use xero::Worker;

#[xero::service]
trait First {
    async fn same(&self) -> u8;
}

#[xero::service]
trait Second {
    async fn same(&self) -> u16;
}

struct Both;

#[xero::worker]
impl First for Both {
    async fn same(&self) -> u8 {
        1
    }
}

#[xero::worker]
impl Second for Both {
    async fn same(&self) -> u16 {
        2
    }
}

fn main() {
    let _ = Worker::connect("tcp://127.0.0.1:5550").serve(Both);
}
