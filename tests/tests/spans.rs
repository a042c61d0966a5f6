//! Each log line of a procedure, its panic included, names its call. A program of its own, because it captures the
//! whole process's log.

use std::{
    io::{self, Write},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Deserializer, Serialize};
use tokio::sync::Notify;
use tracing::{Subscriber, error, info, level_filters::LevelFilter};
use tracing_subscriber::{Layer, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt};
use xero::{CallError, Codec, RpcError, Worker};
use xero_tests::scene::{PATIENCE, client, eventually, joined, within};

/// An argument that logs when it is decoded and when it is dropped.
#[derive(Debug, Serialize)]
pub struct Loud(String);

impl<'de> Deserialize<'de> for Loud {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        info!("decoded");
        String::deserialize(deserializer).map(Self)
    }
}

#[xero::service]
trait Logs {
    async fn task(&self, loud: Loud) -> usize;
    #[xero(inline)]
    async fn inline(&self, loud: Loud) -> usize;
    #[xero(blocking)]
    async fn blocking(&self, loud: Loud) -> usize;
    async fn panic_task(&self) -> usize;
    #[xero(inline)]
    async fn panic_inline(&self) -> usize;
    #[xero(blocking)]
    async fn panic_blocking(&self) -> usize;
    /// Panic with a payload that logs when it is dropped.
    async fn loud_panic_task(&self) -> usize;
    #[xero(inline)]
    async fn loud_panic_inline(&self) -> usize;
    #[xero(blocking)]
    async fn loud_panic_blocking(&self) -> usize;
    /// Logs when it is dropped at its await, and panics then.
    async fn cancelled(&self) -> usize;
    #[xero(inline)]
    async fn cancelled_inline(&self) -> usize;
    #[xero(blocking)]
    async fn cancelled_blocking(&self) -> usize;
    /// Returns a value that JSON does not carry.
    async fn not_a_number(&self) -> f64;
}

struct Logger;

static BEGUN: Notify = Notify::const_new();

struct LogOnDrop;

impl Drop for LogOnDrop {
    fn drop(&mut self) {
        info!("dropped at its await");
        if !std::thread::panicking() {
            std::panic::panic_any(Bomb);
        }
    }
}

/// A panic payload whose drop panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::panic_any(Self);
    }
}

/// A panic payload that logs when it is dropped.
struct LoudPayload;

impl Drop for LoudPayload {
    fn drop(&mut self) {
        info!("payload dropped");
    }
}

async fn wait_for_ever() -> usize {
    let _log = LogOnDrop;
    BEGUN.notify_one();
    std::future::pending().await
}

async fn log_around_an_await(loud: Loud) -> usize {
    info!("before");
    tokio::task::yield_now().await;
    error!("after");
    loud.0.len()
}

#[xero::worker]
impl Logs for Logger {
    async fn task(&self, loud: Loud) -> usize {
        log_around_an_await(loud).await
    }
    async fn inline(&self, loud: Loud) -> usize {
        log_around_an_await(loud).await
    }
    async fn blocking(&self, loud: Loud) -> usize {
        log_around_an_await(loud).await
    }
    async fn panic_task(&self) -> usize {
        panic!("boom")
    }
    async fn panic_inline(&self) -> usize {
        panic!("boom")
    }
    async fn panic_blocking(&self) -> usize {
        panic!("boom")
    }
    async fn loud_panic_task(&self) -> usize {
        std::panic::panic_any(LoudPayload)
    }
    async fn loud_panic_inline(&self) -> usize {
        std::panic::panic_any(LoudPayload)
    }
    async fn loud_panic_blocking(&self) -> usize {
        std::panic::panic_any(LoudPayload)
    }
    async fn cancelled(&self) -> usize {
        wait_for_ever().await
    }
    async fn cancelled_inline(&self) -> usize {
        wait_for_ever().await
    }
    async fn cancelled_blocking(&self) -> usize {
        wait_for_ever().await
    }
    async fn not_a_number(&self) -> f64 {
        f64::NAN
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_lines_of_a_procedure_and_its_panic_name_its_call() {
    capture();
    let client = client().await;
    let worker = Worker::connect(client.endpoint()).serve(Logger).start().unwrap();
    joined(&client, &worker).await;
    let logs = LogsClient::new(&client);
    let secret = || Loud("a secret payload".to_owned());
    let calls =
        [("task", logs.task(secret())), ("inline", logs.inline(secret())), ("blocking", logs.blocking(secret()))];
    for (method, call) in calls {
        let call = call.timeout(PATIENCE).start();
        let id = call.id();
        assert_eq!(call.await, Ok(16));
        for text in ["decoded", "before", "after"] {
            assert_logged(&id.to_string(), method, text);
        }
    }
    let calls = [
        ("panic_task", logs.panic_task()),
        ("panic_inline", logs.panic_inline()),
        ("panic_blocking", logs.panic_blocking()),
    ];
    for (method, call) in calls {
        let call = call.timeout(PATIENCE).start();
        let id = call.id();
        assert!(matches!(call.await, Err(CallError::Rpc(RpcError::Panicked { .. }))));
        assert_logged(&id.to_string(), method, "the procedure panicked");
        assert_logged(&id.to_string(), method, "boom");
        // Where a filter drops spans, the line itself names the call.
        assert_logged(&id.to_string(), method, &format!("method=\"Logs.{method}\""));
    }
    let calls = [
        ("loud_panic_task", logs.loud_panic_task()),
        ("loud_panic_inline", logs.loud_panic_inline()),
        ("loud_panic_blocking", logs.loud_panic_blocking()),
    ];
    for (method, call) in calls {
        let call = call.timeout(PATIENCE).start();
        let id = call.id().to_string();
        assert!(matches!(call.await, Err(CallError::Rpc(RpcError::Panicked { .. }))));
        eventually("the payload is dropped in its span", async || has_logged(&id, method, "payload dropped")).await;
    }
    let calls = [
        ("cancelled", logs.cancelled()),
        ("cancelled_inline", logs.cancelled_inline()),
        ("cancelled_blocking", logs.cancelled_blocking()),
    ];
    for (method, call) in calls {
        let call = call.timeout(PATIENCE).start();
        let id = call.id().to_string();
        within(PATIENCE, BEGUN.notified()).await;
        drop(call);
        let is_logged = async || has_logged(&id, method, "the procedure panicked");
        eventually("the panic is logged", is_logged).await;
        assert_logged(&id, method, "dropped at its await");
        assert_logged(&id, method, &format!("method=\"Logs.{method}\""));
    }
    let call = logs.with_codec(Codec::Json).not_a_number().timeout(PATIENCE).start();
    let id = call.id().to_string();
    assert!(matches!(call.await, Err(CallError::Rpc(RpcError::InvalidReply { .. }))));
    assert_logged(&id, "not_a_number", "the reply cannot be sent");
    assert_logged(&id, "not_a_number", "there is no number for NaN or infinity");
    // A filter that shows a line also shows its call.
    assert!(!WARNINGS.text().contains("before") && WARNINGS.text().contains("after"));
    for line in WARNINGS.text().lines() {
        assert!(!line.contains("after") || line.contains("call=") && line.contains("method="), "{line}");
    }
    assert!(!lines().contains("secret"));
}

fn assert_logged(call: &str, method: &str, text: &str) {
    let lines = lines().clone();
    assert!(has_logged(call, method, text), "no line of {method} with {text:?}:\n{lines}");
}

fn has_logged(call: &str, method: &str, text: &str) -> bool {
    let lines = lines();
    let fields = [
        format!("call={call}"),
        "service=\"Logs\"".to_owned(),
        format!("method=\"{method}\""),
        "attempt=1".to_owned(),
        "peer=0".to_owned(),
        text.to_owned(),
    ];
    lines.lines().any(|line| fields.iter().all(|field| line.contains(field)))
}

static LINES: Lines = Lines(Mutex::new(String::new()));

/// The lines that the filter `warn` keeps.
static WARNINGS: Lines = Lines(Mutex::new(String::new()));

fn lines() -> MutexGuard<'static, String> {
    LINES.text()
}

fn capture() {
    let all = layer(&LINES, LevelFilter::INFO);
    tracing_subscriber::registry().with(all).with(layer(&WARNINGS, LevelFilter::WARN)).init();
}

fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(lines: &'static Lines, level: LevelFilter) -> impl Layer<S> {
    tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || lines).with_filter(level)
}

struct Lines(Mutex<String>);

impl Lines {
    fn text(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for &Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text().push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
