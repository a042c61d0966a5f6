//! Panics of every kind in procedures of every mode: reported as panics, and one call is all they cost.

use xero::{CallError, Worker};
use xero_tests::scene::{PATIENCE, client, joined, run, within};

#[xero::service]
trait Panics {
    async fn task(&self, kind: u8) -> u32;
    #[xero(inline)]
    async fn inline(&self, kind: u8) -> u32;
    #[xero(blocking)]
    async fn blocking(&self, kind: u8) -> u32;
}

struct Panicker;

/// A payload whose drop panics with another of its kind.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::panic_any(Self);
    }
}

/// A payload that owns a runtime, which cannot be dropped where blocking is forbidden.
struct Owner(#[allow(dead_code)] tokio::runtime::Runtime);

fn panic_with(kind: u8) -> u32 {
    match kind {
        0 => panic!("a text"),
        1 => panic!("a text of {kind}"),
        2 => std::panic::panic_any(7_u32),
        3 => std::panic::panic_any(Bomb),
        4 => std::panic::panic_any(Owner(xero_tests::scene::runtime(1))),
        _ => 7,
    }
}

#[xero::worker]
impl Panics for Panicker {
    async fn task(&self, kind: u8) -> u32 {
        panic_with(kind)
    }

    async fn inline(&self, kind: u8) -> u32 {
        panic_with(kind)
    }

    async fn blocking(&self, kind: u8) -> u32 {
        panic_with(kind)
    }
}

#[test]
fn panic_with_any_payload_is_reported_as_a_panic_and_says_what_it_can() {
    run(async {
        let client = client().await;
        let worker = Worker::connect(client.endpoint()).serve(Panicker).start().unwrap();
        joined(&client, &worker).await;
        let panics = PanicsClient::new(&client);
        let no_text = "a panic whose payload is no text";
        for (kind, text) in [(0, "a text"), (1, "a text of 1"), (2, no_text), (3, no_text), (4, no_text)] {
            for call in [panics.task(kind), panics.inline(kind), panics.blocking(kind)] {
                assert_eq!(call.await, Err(CallError::Panicked { message: text.to_owned() }), "{kind}");
            }
        }
        for call in [panics.task(9), panics.inline(9), panics.blocking(9)] {
            assert_eq!(call.await, Ok(7));
        }
        within(PATIENCE, worker.drain()).await;
    });
}
