//! Doc comments, lint levels, `deprecated`, `must_use` and `cfg` go where they mean something, and nothing warns.

#![deny(warnings, missing_docs, missing_debug_implementations, unreachable_pub, unused_qualifications)]
#![deny(single_use_lifetimes, unnameable_types, unused_lifetimes, let_underscore_drop)]

use std::time::Duration;

/// Documented.
#[xero::service]
#[allow(clippy::len_without_is_empty)]
pub trait Documented: Send + Sync {
    /// Adds.
    ///
    /// More about adding.
    #[xero(idempotent)]
    #[must_use]
    async fn add(&self, #[allow(unused)] left: u32, right: u32) -> u32;

    #[doc = "Old."]
    #[deprecated = "add instead"]
    async fn plus(&self, left: u32, right: u32) -> u32;

    /// Elsewhere.
    #[cfg(not(any(unix, windows)))]
    async fn elsewhere(&self, what: TypeThatDoesNotExist) -> TypeThatDoesNotExist;

    /// Here.
    #[cfg(any(unix, windows))]
    #[allow(clippy::too_many_arguments)]
    async fn here(&self, a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8) -> u8;

    /// One of two.
    #[cfg(debug_assertions)]
    async fn either(&self, number: u8) -> u8;
    /// Two of two.
    #[cfg(not(debug_assertions))]
    async fn either(&self, number: u16) -> u16;

    /// Last, so that its place depends on what is there.
    async fn last(&self) -> u8;

    /// Has a body.
    #[inline]
    async fn default(&self, text: &str) -> usize {
        self.last().await as usize + text.len()
    }
}

#[cfg(not(any(unix, windows)))]
#[xero::service]
trait Absent {}

/// Is not there either.
#[xero::service]
#[cfg(not(any(unix, windows)))]
pub trait AbsentAsWell {
    /// Nor is its method.
    async fn method(&self, what: TypeThatDoesNotExist);
}

#[derive(Debug)]
struct Worker;

#[xero::worker]
impl Documented for Worker {
    async fn add(&self, left: u32, right: u32) -> u32 {
        left + right
    }
    async fn plus(&self, left: u32, right: u32) -> u32 {
        left + right
    }
    #[cfg(any(unix, windows))]
    async fn here(&self, a: u8, _b: u8, _c: u8, _d: u8, _e: u8, _f: u8, _g: u8, _h: u8) -> u8 {
        a
    }
    #[cfg(debug_assertions)]
    async fn either(&self, number: u8) -> u8 {
        number
    }
    #[cfg(not(debug_assertions))]
    async fn either(&self, number: u16) -> u16 {
        number
    }
    async fn last(&self) -> u8 {
        9
    }
}

#[xero::worker]
#[cfg(not(any(unix, windows)))]
impl Absent for Worker {}

/// Calls.
pub async fn calls(client: &xero::Client) -> Result<(), Box<dyn std::error::Error>> {
    let documented = DocumentedClient::new(client).with_codec(xero::Codec::Json);
    documented.wait_for_worker(Duration::from_secs(1)).await?;
    println!("{:?} {}", documented.clone(), documented.add(1, 2).await?);
    println!("{}", documented.here(1, 2, 3, 4, 5, 6, 7, 8).await?);
    println!("{}", documented.default("a").await? + usize::from(documented.last().await?));
    Ok(())
}

fn main() {
    drop(Worker);
}
