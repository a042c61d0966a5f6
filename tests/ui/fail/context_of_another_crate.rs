struct Context;

#[xero::service]
trait Demo {
    async fn render(&self, context: &Context);
}

fn main() {}
