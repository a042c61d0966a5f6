//! What strangers cost a process in memory, at every side that listens: while they attack, and after they are gone.

use std::{future::Future, pin::Pin, process::Command};

use tokio::{io::AsyncWriteExt, net::TcpStream};
use xero::{
    Broker,
    proto::{
        frame::{self, Frames},
        message::{Message, Ready, Request, Role},
    },
};
use xero_tests::{
    process::resident_bytes,
    raw,
    scene::{PATIENCE, bind_broker, broker, client, client_of, eventually, probe, run_alone, worker, worker_of},
};

/// A way to attack an endpoint; the connections stay open until they are dropped.
type Attack = for<'a> fn(&'a str, Role) -> Pin<Box<dyn Future<Output = Vec<TcpStream>> + Send + 'a>>;

/// Peers that introduce themselves, declare the largest payload, and send a part of it.
async fn unfinished_payloads(endpoint: &str, role: Role) -> Vec<TcpStream> {
    let ready = frame::encode(&Message::Ready(Ready { role, ..raw::ready() }));
    let mut streams = Vec::new();
    for _ in 0..200 {
        let mut stream = handshake(endpoint).await;
        let header = [&[0, ready.header.len() as u8][..], &ready.header].concat();
        let payload = [&b"\x01\x01h\x02"[..], &(64_u64 << 20).to_be_bytes(), &[7; 256 << 10]].concat();
        // The victim may end the connection before it has read all.
        let _ = stream.write_all(&[header, payload].concat()).await;
        streams.push(stream);
    }
    streams
}

/// Frames that exceed every limit, in each place.
async fn declared_lengths(endpoint: &str, _: Role) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for exponent in 31..64 {
        for flags in [2, 3, 6] {
            let frame = [&[flags][..], &(1_u64 << exponent).to_be_bytes()].concat();
            let mut stream = handshake(endpoint).await;
            let _ = stream.write_all(&frame).await;
            streams.push(stream);
            let mut stream = raw::connect(endpoint).await;
            let _ = stream.write_all(&frame).await;
            streams.push(stream);
        }
    }
    streams
}

/// Handshakes that stop anywhere, by the thousand.
async fn broken_handshakes(endpoint: &str, _: Role) -> Vec<TcpStream> {
    for n in 0..2_000 {
        let mut stream = raw::connect(endpoint).await;
        let _ = stream.write_all(&raw::greeting()[..n % 65]).await;
    }
    Vec::new()
}

/// Messages without an end, of small frames.
async fn endless_messages(endpoint: &str, _: Role) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..50 {
        let mut stream = handshake(endpoint).await;
        let _ = stream.write_all(&b"\x01\x40".iter().copied().chain([7; 64]).collect::<Vec<_>>().repeat(10_000)).await;
        streams.push(stream);
    }
    streams
}

async fn handshake(endpoint: &str) -> TcpStream {
    let mut stream = raw::connect(endpoint).await;
    let ready = b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER";
    stream.write_all(&[&raw::greeting()[..], ready].concat()).await.expect("the handshake of a DEALER");
    stream
}

fn resident() -> usize {
    resident_bytes(std::process::id()).expect("this process runs")
}

/// Runs a test of this name in a process of its own.
///
/// By default, glibc stops to give memory back once it has freed a large block; settings of a whole process tell it to go
/// on.
fn in_a_process_of_its_own(name: &str, test: impl Future<Output = ()>) {
    const SETTINGS: [&str; 2] = ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"];
    if std::env::var_os(SETTINGS[0]).is_some() {
        return run_alone(test);
    }
    let mut again = Command::new(std::env::current_exe().expect("this program"));
    again.args(["--exact", name, "--nocapture"]);
    let status = again.envs(SETTINGS.map(|setting| (setting, "131072"))).status();
    assert!(status.expect("a process").success());
}

#[test]
fn deaf_clients_cost_a_broker_no_more_than_its_limit() {
    in_a_process_of_its_own("deaf_clients_cost_a_broker_no_more_than_its_limit", async {
        let broker = bind_broker(Broker::builder().total_bytes_max(6 << 20)).await;
        let _worker = worker_of(&broker).await;
        let client = client_of(&broker).await;
        let before = resident();
        let mut deaf = Vec::new();
        for _ in 0..6 {
            let mut link = raw::Link::dial(broker.frontend()).await;
            // A window of 64 MiB, more than the broker may hold for all.
            let services = Vec::new();
            link.send(&Message::Ready(Ready { role: Role::Client, credits: 0, services, ..raw::ready() })).await;
            deaf.push(link);
        }
        // Each request is answered with an error of some hundred bytes, which nobody reads.
        for call in 1..=40_000 {
            let request = Request { service: "None".into(), ..raw::request(call, "ping", "[]") };
            let Frames { header, payload } = frame::encode(&Message::Request(request));
            for link in &mut deaf {
                // It may have been disconnected.
                let _ = link.try_send_frames(&[&header, &payload]).await;
            }
            if call % 4_000 == 0 {
                assert_eq!(probe(&client).ping().timeout(PATIENCE).await.expect("a reply"), "pong");
                let during = resident();
                assert!(during < before + (32 << 20), "{before} -> {during} bytes after {call} calls of each");
            }
        }
        eventually("the broker disconnects who reads nothing", async || broker.counters().await.shed_clients > 0).await;
        assert_eq!(probe(&client).ping().timeout(PATIENCE).await.expect("a reply"), "pong");
    });
}

#[test]
fn memory_returns_after_attacks_on_every_listening_side() {
    in_a_process_of_its_own("memory_returns_after_attacks_on_every_listening_side", async {
        let (client, broker) = (client().await, broker().await);
        let _workers = (worker(&client).await, worker_of(&broker).await);
        let behind = client_of(&broker).await;
        let works = async || {
            for client in [&client, &behind] {
                assert_eq!(probe(client).ping().timeout(PATIENCE).await.expect("a reply"), "pong");
            }
        };
        let sides = [
            ("binding client", client.endpoint(), Role::Worker),
            ("broker's back", broker.backend(), Role::Worker),
            ("broker's front", broker.frontend(), Role::Client),
        ];
        let attacks: [(&str, Attack); 4] = [
            ("unfinished payloads", |endpoint, role| Box::pin(unfinished_payloads(endpoint, role))),
            ("declared lengths", |endpoint, role| Box::pin(declared_lengths(endpoint, role))),
            ("broken handshakes", |endpoint, role| Box::pin(broken_handshakes(endpoint, role))),
            ("endless messages", |endpoint, role| Box::pin(endless_messages(endpoint, role))),
        ];
        let before = resident();
        for (attack, strike) in attacks {
            for (side, endpoint, role) in sides {
                let streams = strike(endpoint, role).await;
                works().await;
                let during = resident();
                assert!(during < before + DURING_MAX, "{attack} at the {side}: {before} -> {during} bytes");
                drop(streams);
                let what = format!("memory returns after {attack} at the {side}");
                eventually(&what, async || resident() < before + AFTER_MAX).await;
                works().await;
            }
        }
    });
}

/// 200 payloads of which 256 KiB have arrived, each in a buffer of up to four times that.
const DURING_MAX: usize = 256 << 20;

/// What may be left of all attacks.
const AFTER_MAX: usize = 16 << 20;
