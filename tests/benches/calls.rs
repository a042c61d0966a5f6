//! How fast a call is, beside a bare Tokio TCP echo of the same size in the same run: one after another, 64 in flight, and
//! 8 of a mebibyte each. Run by hand: `cargo bench -p xero-tests`.

use std::{
    future::Future,
    io,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use xero::{Client, Worker};

/// Bytes of one request and of its reply.
const SIZE: usize = 64;

/// Bytes of a large request and of its reply.
const LARGE: usize = 1 << 20;

#[xero::service]
trait Echo {
    #[xero(idempotent)]
    async fn task(&self, payload: String) -> String;
    #[xero(idempotent, inline)]
    async fn inline(&self, payload: String) -> String;
    #[xero(idempotent)]
    async fn vec(&self, payload: &[u8]) -> Vec<u8>;
    #[xero(idempotent)]
    async fn bytes(&self, payload: Bytes) -> Bytes;
}

struct Mirror;

#[xero::worker]
impl Echo for Mirror {
    async fn task(&self, payload: String) -> String {
        payload
    }

    async fn inline(&self, payload: String) -> String {
        payload
    }

    async fn vec(&self, payload: &[u8]) -> Vec<u8> {
        payload.to_vec()
    }

    async fn bytes(&self, payload: Bytes) -> Bytes {
        payload
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    benchmark(&mut criterion);
    criterion.final_summary();
}

fn benchmark(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let bare = runtime.block_on(Bare::connect(SIZE)).expect("a connection");
    let client = runtime.block_on(connect());
    let echo = EchoClient::new(&client);

    let mut group = criterion.benchmark_group("sequential");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(5));
    group.bench_function("bare TCP", |b| b.to_async(&runtime).iter(|| bare.call()));
    group.bench_function("xero, task", |b| {
        b.to_async(&runtime).iter(|| async { echo.task(payload()).await.expect("a reply") })
    });
    group.bench_function("xero, inline", |b| {
        b.to_async(&runtime).iter(|| async { echo.inline(payload()).await.expect("a reply") })
    });
    group.finish();

    let mut group = criterion.benchmark_group("64 in flight");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(5));
    group.bench_function("bare TCP", |b| {
        b.iter_custom(|calls| runtime.block_on(pipelined(calls, 64, &bare, |bare| async move { bare.call().await })))
    });
    group.bench_function("xero, task", |b| {
        let call = |echo: EchoClient| async move { drop(echo.task(payload()).await.expect("a reply")) };
        b.iter_custom(|calls| runtime.block_on(pipelined(calls, 64, &echo, call)))
    });
    group.bench_function("xero, inline", |b| {
        let call = |echo: EchoClient| async move { drop(echo.inline(payload()).await.expect("a reply")) };
        b.iter_custom(|calls| runtime.block_on(pipelined(calls, 64, &echo, call)))
    });
    group.finish();

    let large = runtime.block_on(Bare::connect(LARGE)).expect("a connection");
    let mut group = criterion.benchmark_group("1 MiB, 8 in flight");
    group.throughput(Throughput::Bytes(2 * LARGE as u64)).measurement_time(Duration::from_secs(5)).sample_size(20);
    group.bench_function("bare TCP", |b| {
        b.iter_custom(|calls| runtime.block_on(pipelined(calls, 8, &large, |bare| async move { bare.call().await })))
    });
    let payload = Bytes::from(vec![b'x'; LARGE]);
    let callee = (echo, payload);
    group.bench_function("xero, Vec<u8>", |b| {
        let call =
            |(echo, payload): (EchoClient, Bytes)| async move { drop(echo.vec(&payload).await.expect("a reply")) };
        b.iter_custom(|calls| runtime.block_on(pipelined(calls, 8, &callee, call)))
    });
    group.bench_function("xero, Bytes", |b| {
        let call =
            |(echo, payload): (EchoClient, Bytes)| async move { drop(echo.bytes(payload).await.expect("a reply")) };
        b.iter_custom(|calls| runtime.block_on(pipelined(calls, 8, &callee, call)))
    });
    group.finish();
}

fn payload() -> String {
    "x".repeat(SIZE)
}

/// The time that `calls` calls take with `in_flight` callers side by side.
async fn pipelined<C, F, Fut>(calls: u64, in_flight: u64, callee: &C, call: F) -> Duration
where
    C: Clone + Send + 'static,
    F: Fn(C) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..in_flight {
        let callee = callee.clone();
        let share = calls / in_flight + u64::from(caller < calls % in_flight);
        callers.spawn(async move {
            for _ in 0..share {
                call(callee.clone()).await;
            }
        });
    }
    callers.join_all().await;
    start.elapsed()
}

async fn connect() -> Client {
    let client = Client::bind("tcp://127.0.0.1:0").await.expect("a free port");
    Worker::connect(client.endpoint()).serve(Mirror).concurrency(256).start().expect("a worker");
    client.wait_for_worker(Duration::from_secs(5)).await.expect("the worker registers");
    client
}

/// The least that a call over TCP can cost: fixed-size messages, answered in order, written as they gather.
#[derive(Clone)]
struct Bare {
    calls: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

impl Bare {
    async fn connect(size: usize) -> io::Result<Self> {
        // Room for a batch of small ones, and for one large one.
        let buffer_bytes = (size * 256).min(LARGE);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = listener.local_addr()?;
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await?;
            Self::echo(stream, buffer_bytes).await
        });
        let stream = TcpStream::connect(endpoint).await?;
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = stream.into_split();
        let (calls, mut mailbox) = mpsc::unbounded_channel();
        let (sent, mut waiting) = mpsc::unbounded_channel::<oneshot::Sender<()>>();
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while mailbox.recv_many(&mut batch, 256).await > 0 {
                let requests = vec![b'x'; size * batch.len()];
                batch.drain(..).for_each(|call| drop(sent.send(call)));
                writer.write_all(&requests).await?;
            }
            io::Result::Ok(())
        });
        tokio::spawn(async move {
            let mut buffer = vec![0; buffer_bytes];
            let mut unread = 0;
            loop {
                unread += match reader.read(&mut buffer).await? {
                    0 => return io::Result::Ok(()),
                    read => read,
                };
                while unread >= size {
                    unread -= size;
                    if let Some(call) = waiting.recv().await {
                        let _ = call.send(());
                    }
                }
            }
        });
        Ok(Self { calls })
    }

    async fn call(&self) {
        let (sender, receiver) = oneshot::channel();
        self.calls.send(sender).expect("the writer lives");
        receiver.await.expect("the reader lives");
    }

    async fn echo(mut stream: TcpStream, buffer_bytes: usize) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = vec![0; buffer_bytes];
        loop {
            match stream.read(&mut buffer).await? {
                0 => return Ok(()),
                read => stream.write_all(&buffer[..read]).await?,
            }
        }
    }
}
