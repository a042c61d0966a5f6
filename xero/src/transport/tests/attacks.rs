//! What strangers do to our own ZMTP over real sockets; a good peer must not notice.

use std::{net::TcpStream, process::Command, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream as AsyncStream,
};

use super::{
    sockets::{GREETING, handshake, ready},
    *,
};

/// A ROUTER with a good peer.
struct Victim {
    router: Router,
    dealer: Dealer,
    peer: Peer,
}

impl Victim {
    async fn new() -> Self {
        let (router, dealer, peer) = Site::tcp(Transport::Zmtp).pair().await;
        Self { router, dealer, peer }
    }

    fn address(&self) -> &str {
        self.router.endpoint().trim_start_matches("tcp://")
    }

    async fn connect(&self) -> AsyncStream {
        AsyncStream::connect(self.address()).await.expect("a connection")
    }

    /// Makes the handshake, sends bytes, and reads until the ROUTER closes; the good peer works meanwhile.
    async fn assert_dropped(&mut self, bytes: &[u8]) {
        let mut stream = handshake(&self.router, bytes).await;
        self.assert_closed(&mut stream).await;
    }

    async fn assert_closed(&mut self, stream: &mut AsyncStream) {
        let mut rest = Vec::new();
        let closed = within(async {
            tokio::select! {
                _ = stream.read_to_end(&mut rest) => true,
                input = self.next_of_the_good_peer() => panic!("{input:?}"),
            }
        });
        assert!(closed.await);
        self.assert_works().await;
    }

    /// Ignores the strangers.
    async fn next_of_the_good_peer(&mut self) -> RouterInput {
        loop {
            match poll_fn(|cx| self.router.poll_receive(cx)).await {
                RouterInput::Accepted(peer) | RouterInput::Gone(peer) if peer != self.peer => {}
                RouterInput::Frames(peer, _) | RouterInput::WrongFrameCount(peer, _) if peer != self.peer => {}
                RouterInput::Oversized(peer, _) if peer != self.peer => {}
                input => return input,
            }
        }
    }

    async fn assert_works(&mut self) {
        self.dealer.send(frames("there", "payload")).expect("a send");
        match within(self.next_of_the_good_peer()).await {
            RouterInput::Frames(_, received) => assert_eq!(received, frames("there", "payload")),
            input => panic!("{input:?}"),
        }
        self.router.send(self.peer, frames("back", "payload")).expect("a send");
        assert_reply(&mut self.dealer, &frames("back", "payload")).await;
    }
}

/// The head of a long frame.
fn declared(flags: u8, length: u64) -> Vec<u8> {
    [flags | 2].into_iter().chain(length.to_be_bytes()).collect()
}

#[tokio::test]
async fn declared_lengths_end_the_connection() {
    let mut victim = Victim::new().await;
    for exponent in 32..64 {
        for flags in [0, 1, 4] {
            let frame = declared(flags, 1 << exponent);
            let mut before = victim.connect().await;
            before.write_all(&frame).await.expect("a write");
            victim.assert_closed(&mut before).await;
            let mut within = victim.connect().await;
            within.write_all(&[&GREETING[..], &frame].concat()).await.expect("a write");
            victim.assert_closed(&mut within).await;
            victim.assert_dropped(&frame).await;
            victim.assert_dropped(&[&b"\x00\x05hello"[..], &frame].concat()).await;
        }
    }
}

#[tokio::test]
async fn declared_payload_over_the_limit_holds_up_nobody() {
    let mut victim = Victim::new().await;
    let frame = [b"\x00\x05hello\x01\x01h".to_vec(), declared(0, 1 << 31), vec![7; 100_000]].concat();
    let _streams = (handshake(&victim.router, &frame).await, handshake(&victim.router, &frame).await);
    victim.assert_works().await;
}

#[tokio::test]
async fn message_over_a_limit_is_reported_and_the_next_one_arrives() {
    let mut site = Site::tcp(Transport::Zmtp);
    (site.limits.header_bytes_max, site.limits.payload_bytes_max) = (1024, 10_000);
    let mut router = site.bind().await;
    let (mut dealer, peer) = Site::tcp(Transport::Zmtp).join(&mut router).await;
    for (header, payload) in [(5, 10_001), (1025, 3), (2000, 20_000), (1500, 0)] {
        let (header, payload) = (vec![1; header], vec![2; payload]);
        let (header_bytes, payload_bytes) = (header.len(), payload.len());
        dealer.send(Frames { header: header.clone().into(), payload: payload.into() }).expect("a send");
        match next(&mut router).await {
            RouterInput::Oversized(from, oversized) => {
                assert_eq!((from, oversized.header_bytes), (peer, header_bytes));
                assert_eq!(oversized.payload_bytes, payload_bytes);
                assert_eq!(oversized.header, header[..header_bytes.min(1024)]);
            }
            input => panic!("{input:?}"),
        }
        assert_round_trip(&mut router, &mut dealer, peer).await;
    }
    // And the other way.
    let mut limited = site.dial(router.endpoint()).await;
    limited.send(frames("hello", "")).expect("a send");
    let (peer, _) = message(&mut router).await;
    router.send(peer, frames("first", "")).expect("a send");
    assert_reply(&mut limited, &frames("first", "")).await;
    router.send(peer, Frames { header: Bytes::from_static(b"h"), payload: vec![2; 10_001].into() }).expect("a send");
    let input = reply(&mut limited).await;
    assert!(matches!(&input, DealerInput::Oversized(oversized) if oversized.payload_bytes == 10_001), "{input:?}");
}

#[tokio::test]
async fn large_payload_of_a_stranger_ends_its_connection() {
    let mut victim = Victim::new().await;
    victim.assert_dropped(&[b"\x01\x01h".to_vec(), declared(0, 4097), vec![7; 4097]].concat()).await;
}

#[tokio::test]
async fn endless_message_ends_the_connection() {
    let mut victim = Victim::new().await;
    victim.assert_dropped(&b"\x01\x01x".repeat(10_000)).await;
}

#[tokio::test]
async fn large_and_many_properties_end_the_connection() {
    let mut victim = Victim::new().await;
    for ready in [
        [declared(4, 12 << 20), b"\x05READY".to_vec(), vec![0; 1 << 20]].concat(),
        [declared(4, 6 + 600 * 6), b"\x05READY".to_vec(), b"\x01x\0\0\0\0".repeat(600)].concat(),
        [&b"\x04\x0c\x05READY\x01x"[..], b"\xff\xff\xff\xff"].concat(),
    ] {
        let mut stream = victim.connect().await;
        let _ = stream.write_all(&[&GREETING[..], &ready].concat()).await;
        victim.assert_closed(&mut stream).await;
    }
}

#[tokio::test]
async fn peer_of_another_version_or_mechanism_is_refused() {
    let mut victim = Victim::new().await;
    for (at, bytes) in [(10, &[1, 0][..]), (12, b"CURVE"), (12, b"PLAIN"), (9, &[0])] {
        let mut greeting = GREETING;
        greeting[at..][..bytes.len()].copy_from_slice(bytes);
        let mut stream = victim.connect().await;
        stream.write_all(&greeting).await.expect("a write");
        victim.assert_closed(&mut stream).await;
    }
}

#[tokio::test]
async fn half_a_greeting_and_silence_end_in_time() {
    let mut victim = Victim::new().await;
    let started = Instant::now();
    let mut streams = Vec::new();
    for n in 0..64 {
        let mut stream = victim.connect().await;
        stream.write_all(&GREETING[..n]).await.expect("a write");
        streams.push(stream);
    }
    let mut last = victim.connect().await;
    last.write_all(&GREETING).await.expect("a write");
    streams.push(last);
    for stream in &mut streams {
        victim.assert_closed(stream).await;
    }
    let elapsed = started.elapsed();
    assert!(elapsed > Duration::from_secs(4) && elapsed < Duration::from_secs(20), "{elapsed:?}");
}

#[tokio::test]
async fn byte_at_a_time_is_slow_and_otherwise_a_peer_like_others() {
    let mut victim = Victim::new().await;
    let mut stream = victim.connect().await;
    stream.set_nodelay(true).expect("an option");
    for byte in [&GREETING[..], &ready("DEALER"), b"\x01\x05hello\x00\x05world"].concat() {
        stream.write_all(&[byte]).await.expect("a write");
        if byte % 8 == 0 {
            victim.assert_works().await;
        }
    }
    let (_, received) = message(&mut victim.router).await;
    assert_eq!(received, frames("hello", "world"));
    victim.assert_works().await;
}

#[tokio::test]
async fn handshakes_opened_and_dropped_by_the_thousand_leave_room_for_others() {
    let mut victim = Victim::new().await;
    let address = victim.address().to_owned();
    let flood = std::thread::spawn(move || {
        for n in 0..5_000 {
            let Ok(mut stream) = TcpStream::connect(&address) else { continue };
            let _ = std::io::Write::write_all(&mut stream, &GREETING[..n % 65]);
        }
    });
    while !flood.is_finished() {
        victim.assert_works().await;
        tokio::task::yield_now().await;
    }
    flood.join().expect("a thread");
    let mut dealer = Site::tcp(Transport::Zmtp).dial(victim.router.endpoint()).await;
    dealer.send(frames("late", "")).expect("a send");
    let (peer, _) = message(&mut victim.router).await;
    assert_round_trip(&mut victim.router, &mut dealer, peer).await;
}

#[tokio::test]
async fn oldest_handshake_makes_way_once_there_are_too_many() {
    let mut victim = Victim::new().await;
    let address = victim.address().to_owned();
    let mut oldest = victim.connect().await;
    let flood = tokio::task::spawn_blocking(move || {
        let connect = |_| TcpStream::connect(&address).expect("a connection");
        (0..4200).map(connect).collect::<Vec<_>>()
    });
    let started = Instant::now();
    victim.assert_closed(&mut oldest).await;
    assert!(started.elapsed() < Duration::from_secs(5), "before its time: {:?}", started.elapsed());
    let streams = flood.await.expect("a flood");
    victim.assert_works().await;
    drop(streams);
}

#[tokio::test]
async fn peer_that_pings_and_never_reads_disturbs_nobody() {
    let mut victim = Victim::new().await;
    let mut stream = handshake(&victim.router, b"\x00\x05hello").await;
    let pings = b"\x04\x17\x04PING\0\x01sixteen bytes it".repeat(1000);
    for _ in 0..100 {
        tokio::select! {
            written = stream.write_all(&pings) => written.expect("a write"),
            input = victim.next_of_the_good_peer() => panic!("{input:?}"),
        }
        victim.assert_works().await;
    }
}

#[test]
fn shortage_of_descriptors_costs_only_new_connections() {
    // A limit of a whole process, so this takes one of its own.
    let this = std::env::current_exe().expect("a program");
    let name = concat!(module_path!(), "::child_with_few_descriptors");
    let name = name.split_once("::").expect("a crate").1;
    let status = Command::new("sh")
        .args(["-c", "ulimit -n 64 && exec \"$0\" --exact \"$1\" --ignored --nocapture"])
        .arg(this)
        .arg(name)
        .status();
    assert!(status.expect("a process").success());
}

#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "for shortage_of_descriptors_costs_only_new_connections"]
async fn child_with_few_descriptors() {
    let mut victim = Victim::new().await;
    let mut streams = Vec::new();
    // Both ends are here: the last connections are in the backlog of a listener that cannot accept.
    while let Ok(stream) = AsyncStream::connect(victim.address()).await {
        streams.push(stream);
        victim.assert_works().await;
    }
    drop(streams.pop());
    for _ in 0..10 {
        victim.assert_works().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let before = cpu_ticks();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(cpu_ticks() - before < 20, "it spins: {} ticks of 100 a second", cpu_ticks() - before);
    drop(streams);
    let mut dealer = loop {
        match Site::tcp(Transport::Zmtp).try_dial(victim.router.endpoint()).await {
            Ok(dealer) => break dealer,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    dealer.send(frames("late", "")).expect("a send");
    let (peer, _) = message(&mut victim.router).await;
    assert_round_trip(&mut victim.router, &mut dealer, peer).await;
}

/// The process's time in user and kernel mode.
#[cfg(target_os = "linux")]
fn cpu_ticks() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("a file");
    let fields = text.rsplit_once(')').expect("a name").1.split_whitespace();
    fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
}
