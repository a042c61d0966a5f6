//! A service that a `macro_rules!` macro writes, with types and names from its caller.

#![deny(warnings)]

macro_rules! counter {
    ($visibility:vis $name:ident, $method:ident, $number:ty, $argument:ident: $borrowed:ty, $reply:ty) => {
        #[xero::service]
        $visibility trait $name {
            async fn $method(&self, number: $number, $argument: $borrowed) -> $reply;

            async fn twice(&self, number: $number) -> $reply {
                let text = String::from("a");
                self.$method(number, &text).await
            }
        }
    };
}

counter!(pub Small, count, u8, text: &str, Result<u8, String>);
counter!(Large, count_far, Vec<u64>, text: &str, (u64, Option<u8>));

struct Worker;

#[xero::worker]
impl Small for Worker {
    async fn count(&self, number: u8, text: &str) -> Result<u8, String> {
        number.checked_add(1).ok_or(text.to_owned())
    }
}

#[xero::worker]
impl Large for Worker {
    async fn count_far(&self, number: Vec<u64>, _text: &str) -> (u64, Option<u8>) {
        (number.len() as u64, None)
    }
}

#[allow(dead_code)]
async fn calls(client: &xero::Client) -> Result<(), Box<dyn std::error::Error>> {
    let _: u8 = SmallClient::new(client).count(1, "a").await.map_err(|error| error.to_string())?;
    let _: (u64, Option<u8>) = LargeClient::new(client).twice(vec![1]).await?;
    Ok(())
}

fn main() {}
