//! A user's log at the default level. A program of its own, because it captures the whole process's log.

use std::{
    io::{self, Write},
    sync::{Mutex, Once, PoisonError},
    thread,
};

use tracing::level_filters::LevelFilter;
use xero::{Broker, Client, ProgramTurns, Worker};
use xero_tests::{
    process::threads_wait,
    scene::{client, eventually, prober, run_alone, start},
    service::ProbeClient,
};

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged() -> String {
    String::from_utf8_lossy(&LOG.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// Captures the log from now on.
fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let log = tracing_subscriber::fmt().with_max_level(LevelFilter::INFO).with_thread_names(true);
        log.with_ansi(false).with_writer(|| Log).init();
    });
}

#[test]
fn lines_say_who_registered_with_whom_and_where() {
    capture();
    run_alone(async {
        let broker = Broker::bind("tcp://127.0.0.1:0", "tcp://127.0.0.1:0").await.unwrap();
        let (front, back) = (broker.frontend().to_string(), broker.backend().to_string());
        let worker = Worker::connect(&*back).serve(prober()).start().unwrap();
        let client = Client::connect(&*front).unwrap();
        ProbeClient::new(&client).ping().await.unwrap();
        worker.drain().await;
        for line in [
            format!("this worker has registered with a client or broker peer=0 endpoint=\"{back}\""),
            format!("this client has connected to a broker peer=0 endpoint=\"{front}\""),
            format!("a worker has registered peer=1 id={}", worker.id()),
            "a client has connected peer=".to_owned(),
            "this worker drains: ".to_owned(),
            "a worker drains: ".to_owned(),
        ] {
            eventually(&line, async || logged().contains(&line)).await;
        }
        assert!(!logged().contains("dispatcher"), "{}", logged());
    });
}

/// A line about a drain is written by the thread that handles it.
#[test]
fn worker_may_keep_all_turns_to_its_io_thread() {
    capture();
    run_alone(async {
        let client = client().await;
        let thread_of_a_drain = async |program_turns, thread: &str| {
            let settings = Worker::connect(client.endpoint()).program_turns(program_turns);
            let worker = start(&client, settings).await;
            eventually("the I/O thread is idle", async || threads_wait("xero-worker")).await;
            LOG.lock().unwrap_or_else(PoisonError::into_inner).clear();
            worker.drain().await;
            logged().contains(&format!("{thread} xero::proto::worker: this worker drains: "))
        };
        let here = thread::current().name().expect("tests run on named threads").to_owned();
        eventually("its handle takes a turn", async || thread_of_a_drain(ProgramTurns::Write, &here).await).await;
        for _ in 0..5 {
            assert!(thread_of_a_drain(ProgramTurns::None, "xero-worker").await, "{}", logged());
        }
    });
}
