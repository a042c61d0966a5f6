use std::borrow::Cow;

#[xero::service]
trait Demo {
    async fn put(&self, key: Cow<str>, value: Cow<'_, str>);
}

fn main() {
    drop(|client: &xero::Client| DemoClient::new(client).put("a".into(), "b".into()));
}
