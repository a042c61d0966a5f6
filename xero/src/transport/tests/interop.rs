//! Our own ZMTP against independent peers: the crate `zeromq`, and libzmq through pyzmq.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use super::*;
use crate::transport::zeromq::raw::RawDealer;

/// A socket of each implementation, at either end.
const PAIRS: [(Transport, Transport); 3] =
    [(Transport::Zmtp, Transport::Zmtp), (Transport::Zmtp, Transport::ZeroMq), (Transport::ZeroMq, Transport::Zmtp)];

async fn connected(of_router: Transport, of_dealer: Transport) -> (Router, Dealer, Peer) {
    let mut router = Site::tcp(of_router).bind().await;
    let (mut dealer, peer) = Site::tcp(of_dealer).join(&mut router).await;
    assert_round_trip(&mut router, &mut dealer, peer).await;
    (router, dealer, peer)
}

#[tokio::test]
async fn large_messages_pass_between_implementations() {
    for (of_router, of_dealer) in PAIRS {
        let (mut router, mut dealer, peer) = connected(of_router, of_dealer).await;
        for size in [255, 256, 64 * 1024, 64 << 20] {
            let payload: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            let large = Frames { header: Bytes::from_static(b"large"), payload: payload.into() };
            dealer.send(large.clone()).expect("a send");
            let received = alongside(|cx| dealer.poll_receive(cx).is_pending(), message(&mut router)).await;
            assert!(received == (peer, large.clone()), "{of_router:?} {of_dealer:?}: {size} bytes there");
            router.send(peer, large.clone()).expect("a send");
            let received = alongside(|cx| router.poll_receive(cx).is_pending(), reply(&mut dealer)).await;
            let is_same = matches!(&received, DealerInput::Frames(frames) if *frames == large);
            assert!(is_same, "{of_router:?} {of_dealer:?}: {size} bytes back");
        }
    }
}

#[tokio::test]
async fn thousands_of_small_messages_pass_between_implementations() {
    for (of_router, of_dealer) in PAIRS {
        let (mut router, mut dealer, peer) = connected(of_router, of_dealer).await;
        let texts: Vec<_> =
            (0..10_000).map(|n| frames(&n.to_string(), if n % 2 == 0 { "payload" } else { "" })).collect();
        texts.iter().for_each(|frames| dealer.send(frames.clone()).expect("a send"));
        for frames in &texts {
            let received = alongside(|cx| dealer.poll_receive(cx).is_pending(), message(&mut router)).await;
            assert_eq!(received, (peer, frames.clone()));
        }
        texts.iter().for_each(|frames| router.send(peer, frames.clone()).expect("a send"));
        for frames in &texts {
            alongside(|cx| router.poll_receive(cx).is_pending(), assert_reply(&mut dealer, frames)).await;
        }
    }
}

#[tokio::test]
async fn same_identity_gives_two_peers_that_do_not_disturb_each_other() {
    let mut router = Site::tcp(Transport::Zmtp).bind().await;
    let mut dealers = Vec::new();
    for text in ["first", "second"] {
        let mut dealer = RawDealer::dial(router.endpoint(), b"same").await;
        dealer.send(vec![Bytes::from_static(text.as_bytes())]).await;
        let (peer, received) = message(&mut router).await;
        assert_eq!(received, frames(text, ""));
        dealers.push((dealer, peer, text));
    }
    for (dealer, peer, text) in &mut dealers {
        router.send(*peer, frames(text, "")).expect("a send");
        assert_eq!(within(dealer.receive()).await, [Bytes::from_static(text.as_bytes())]);
    }
}

#[tokio::test]
async fn dealer_of_libzmq_talks_to_a_router() {
    let mut router = Site::tcp(Transport::Zmtp).bind().await;
    let Some(mut peer) = Libzmq::start("dealer", router.endpoint()) else { return };
    for _ in 0..SMALL {
        let (from, frames) = message(&mut router).await;
        router.send(from, frames).expect("a send");
    }
    let (from, frames) = message(&mut router).await;
    assert_eq!(frames.payload.len(), LARGE);
    router.send(from, frames).expect("a send");
    let input = next(&mut router).await;
    assert!(matches!(input, RouterInput::WrongFrameCount(wrong, 3) if wrong == from), "{input:?}");
    // The peer's own heartbeats would end the connection in the meantime, if nobody answered them.
    let (_, last) = message(&mut router).await;
    assert_eq!(last.header, "done");
    peer.assert_success();
}

#[tokio::test]
async fn router_of_libzmq_talks_to_a_dealer() {
    let Some(mut peer) = Libzmq::start("router", "tcp://127.0.0.1:*") else { return };
    let mut dealer = Site::tcp(Transport::Zmtp).dial(&peer.line()).await;
    for n in 0..SMALL {
        dealer.send(frames(&n.to_string(), "small")).expect("a send");
    }
    for n in 0..SMALL {
        assert_reply(&mut dealer, &frames(&n.to_string(), "small")).await;
    }
    let large = Frames { header: Bytes::from_static(b"large"), payload: vec![7; LARGE].into() };
    dealer.send(large.clone()).expect("a send");
    let received = reply(&mut dealer).await;
    assert!(matches!(&received, DealerInput::Frames(frames) if *frames == large));
    // Longer than the peer's heartbeats take to end a connection without answers.
    let waited = tokio::time::timeout(Duration::from_secs(2), reply(&mut dealer)).await;
    assert!(waited.is_err(), "{waited:?}");
    dealer.send(frames("end", "")).expect("a send");
    peer.assert_success();
}

const SMALL: usize = 5_000;
const LARGE: usize = 64 << 20;

/// A process with a socket of libzmq.
struct Libzmq {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Libzmq {
    /// `None` where there is no Python with pyzmq; the test prints that.
    fn start(role: &str, endpoint: &str) -> Option<Self> {
        let has_zmq = Command::new("python3").args(["-c", "import zmq"]).stderr(Stdio::null()).status();
        if !has_zmq.is_ok_and(|status| status.success()) {
            eprintln!("skipped: there is no python3 with pyzmq here");
            return None;
        }
        let arguments = ["-c", SCRIPT, role, endpoint, &SMALL.to_string(), &LARGE.to_string()];
        let mut child = Command::new("python3").args(arguments).stdout(Stdio::piped()).spawn().expect("a process");
        let output = BufReader::new(child.stdout.take().expect("an output"));
        Some(Self { child, output })
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line.trim().to_owned()
    }

    fn assert_success(&mut self) {
        assert!(self.child.wait().expect("an end").success());
    }
}

impl Drop for Libzmq {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SCRIPT: &str = r#"
import sys, time, zmq
role, endpoint, small, large = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
socket = zmq.Context().socket(zmq.DEALER if role == "dealer" else zmq.ROUTER)
socket.setsockopt(zmq.HEARTBEAT_IVL, 100)
socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 1000)
socket.setsockopt(zmq.RCVTIMEO, 25000)
socket.setsockopt(zmq.SNDHWM, 0)
socket.setsockopt(zmq.RCVHWM, 0)
if role == "dealer":
    socket.connect(endpoint)
    for n in range(small):
        socket.send_multipart([b"%d" % n, b"small"])
    for n in range(small):
        assert socket.recv_multipart() == [b"%d" % n, b"small"]
    socket.send_multipart([b"large", b"\x07" * large])
    assert socket.recv_multipart() == [b"large", b"\x07" * large]
    socket.send_multipart([b"a", b"b", b"c"])
    time.sleep(2)
    socket.send(b"done")
else:
    socket.bind(endpoint)
    print(socket.getsockopt(zmq.LAST_ENDPOINT).decode(), flush=True)
    while True:
        frames = socket.recv_multipart()
        if frames[1:] == [b"end"]:
            break
        socket.send_multipart(frames)
"#;
