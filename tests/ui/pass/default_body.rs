//! A default body awaits, borrows its arguments and calls other methods; an impl may replace it.

#![deny(warnings)]

#[xero::service]
trait Greeter {
    async fn name(&self) -> String;

    async fn greet(&self, greeting: &str, times: u32) -> String {
        let mut text = String::new();
        for _ in 0..times {
            text.push_str(greeting);
            text.push_str(&self.name().await);
        }
        text
    }

    async fn early(&self, number: u8) -> Result<u8, String> {
        if number == 0 {
            return Err("zero".to_owned());
        }
        Ok(number)
    }
}

struct Default_;
struct Replaced;

#[xero::worker]
impl Greeter for Default_ {
    async fn name(&self) -> String {
        "a".to_owned()
    }
}

#[xero::worker]
impl Greeter for Replaced {
    async fn name(&self) -> String {
        "b".to_owned()
    }

    async fn greet(&self, greeting: &str, _times: u32) -> String {
        greeting.to_owned()
    }
}

/// The trait is an ordinary one: it can be called without a worker and spawned on any thread.
#[allow(dead_code)]
fn spawned(greeter: impl Greeter + Send + Sync + 'static) -> impl Future<Output = String> + Send + 'static {
    async move { greeter.greet("hi ", 2).await }
}

fn main() {}
