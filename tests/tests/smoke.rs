//! throwaway
use std::{sync::Arc, time::{Duration, Instant}};
use xero::__private::*;
static D: ServiceDescriptor = ServiceDescriptor { name: "Demo", version: 1, methods: &[
  MethodDescriptor { name: "add", signature: "add(a: i64, b: i64) -> i64", fingerprint: 7, idempotent: true, timeout: None, mode: Mode::Task },
  MethodDescriptor { name: "slow", signature: "slow(ms: u64) -> bool", fingerprint: 8, idempotent: true, timeout: None, mode: Mode::Task },
  MethodDescriptor { name: "boom", signature: "boom()", fingerprint: 9, idempotent: true, timeout: None, mode: Mode::Inline },
  MethodDescriptor { name: "block", signature: "block(ms)", fingerprint: 10, idempotent: true, timeout: None, mode: Mode::Blocking },
]};
struct S;
fn svc() -> BoundService {
    let s = Arc::new(S);
    BoundService::new(&D)
      .procedure(&s, |_s: Arc<S>, cx: Context, (a, b): (i64, i64)| async move { reply(cx.codec(), &(a + b)) })
      .procedure(&s, |_s: Arc<S>, cx: Context, (ms,): (u64,)| async move { let _ = cx.partial("started").await; tokio::time::sleep(Duration::from_millis(ms)).await; reply(cx.codec(), &true) })
      .procedure(&s, |_s: Arc<S>, _cx: Context, (): ()| async move { panic!("boom") })
      .procedure(&s, |_s: Arc<S>, cx: Context, (ms,): (u64,)| async move { #[allow(clippy::disallowed_methods)] std::thread::sleep(Duration::from_millis(ms)); reply(cx.codec(), &true) })
}
async fn run(endpoint: &str) {
    let _ = tracing_subscriber::fmt().with_env_filter("debug").try_init();
    let client = xero::Client::bind(endpoint).await.unwrap();
    println!("bound {}", client.endpoint());
    let worker = xero::Worker::connect(client.endpoint()).serve(svc()).start().unwrap();
    client.wait_for_worker(Duration::from_secs(2)).await.unwrap();
    let stub = Stub::new(&client, &D);
    let c: Call<i64, Never> = stub.call(0, &(1i64, 2i64));
    assert_eq!(c.await.unwrap(), 3);
    let start = Instant::now();
    for i in 0..2000i64 { let c: Call<i64, Never> = stub.call(0, &(i, 2i64)); assert_eq!(c.await.unwrap(), i + 2); }
    println!("sequential {:?} per call", start.elapsed() / 2000);
    let start = Instant::now();
    let tasks: Vec<_> = (0..64).map(|t| { let stub = stub.clone(); tokio::spawn(async move { for i in 0..500i64 { let c: Call<i64, Never> = stub.call(0, &(i, t)); assert_eq!(c.await.unwrap(), i + t); } }) }).collect();
    for t in tasks { t.await.unwrap(); }
    println!("64 in flight {:?} per call", start.elapsed() / 32000);
    let c: Call<bool, Never> = stub.call(1, &(50u64,));
    let mut p = c.start();
    while let Some(v) = p.partial().await { println!("partial {:?}", v.decode::<String>()); }
    println!("{:?}", p.await);
    let c: Call<(), Never> = stub.call(2, &());
    println!("{:?}", c.await);
    let c: Call<bool, Never> = stub.call(3, &(10u64,));
    println!("{:?}", c.await);
    let c: Call<bool, Never> = stub.call(1, &(5000u64,));
    println!("{:?}", c.timeout(Duration::from_millis(100)).await);
    println!("{:?}", client.call("Demo.nope").await);
    println!("{:?}", client.call("Demo.add").arguments(&(1, 2)).await.unwrap().decode::<i64>());
    println!("{:?}", client.call("Demo.add").arguments(&("x", 2)).await);
    println!("{:?}", client.counters().await);
    let start = Instant::now();
    worker.drain().await;
    println!("drained in {:?}", start.elapsed());
    println!("{:?} {:?}", client.is_connected(), client.call("Demo.add").fail_fast().await);
    let start = Instant::now();
    client.close().await;
    println!("closed in {:?}", start.elapsed());
    println!("{:?}", client.call("Demo.add").await);
}
#[tokio::test(flavor = "multi_thread")]
async fn tcp() { run("tcp://127.0.0.1:0").await }
#[tokio::test(flavor = "multi_thread")]
async fn mem() { run("inproc://smoke").await }
