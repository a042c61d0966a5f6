macro_rules! methods {
    () => {
        async fn pong(&self);
    };
}

#[xero::service]
trait Demo {
    async fn ping(&self);

    methods!();
}

fn main() {}
