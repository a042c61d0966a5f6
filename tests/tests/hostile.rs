//! Foreign peers at a port, or at the other end of a connection, affect no other peer.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};
use uuid::Uuid;
use xero::{
    CallId, Client, Transport, Worker,
    proto::{
        frame::{self, Frames},
        message::{Message, Request, Role, Subscribe},
    },
};
use xero_tests::{
    raw::{self, Dispatcher, Link},
    scene::{PATIENCE, beating, bind, client, eventually, has, joined, probe, prober, run, timed, within, worker},
};

/// A client with a worker and constant calls; `disturb` must fail none of them, nor slow them down beyond what a busy
/// machine explains.
async fn undisturbed(disturb: impl AsyncFnOnce(&Client)) {
    let client = client().await;
    let worker = worker(&client).await;
    let probe = probe(&client);
    let calls = async {
        loop {
            let (outcome, time) = timed(probe.ping().timeout(PATIENCE)).await;
            assert_eq!(outcome.expect("a reply"), "pong");
            assert!(time < PATIENCE / 6, "a call took {time:?}");
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = calls => {}
        () = disturb(&client) => {}
    }
    assert_eq!(probe.ping().await.expect("a reply"), "pong");
    assert!(has(&client, &worker));
    assert_eq!(worker.counters().await.redials, 0);
}

#[test]
fn peers_without_an_identity_are_distinguished() {
    run(async {
        let client = client().await;
        let mut workers = Vec::new();
        for _ in 0..2 {
            let mut link = Link::dial_as(client.endpoint(), b"").await;
            link.send(&Message::Ready(raw::ready())).await;
            assert!(matches!(link.receive().await, Some(Message::Ready(_))));
            workers.push(link);
        }
        eventually("both are registered", async || client.workers().len() == 2).await;
    });
}

#[test]
fn connections_without_an_introduction_are_dropped_in_time() {
    run(async {
        let client = bind(beating(Duration::from_millis(20))).await;
        let mut silent = Link::dial_as(client.endpoint(), b"silent").await;
        let mut registered = Link::dial_as(client.endpoint(), b"registered").await;
        registered.send(&Message::Ready(raw::ready())).await;
        assert!(matches!(registered.receive().await, Some(Message::Ready(_))));
        let (end, time) = timed(within(PATIENCE, silent.receive())).await;
        assert!(end.is_none(), "the connection ends, without a message: {end:?}");
        assert!(time >= Duration::from_millis(400), "not long before ten expiries of 60 ms: {time:?}");
        eventually("it is counted", async || client.counters().await.unregistered_messages == 1).await;
    });
}

#[test]
fn foreign_bytes_affect_no_other_peer() {
    run(undisturbed(async |client| {
        let mut random = Random(7);
        for round in 0..100 {
            let mut stream = raw::connect(client.endpoint()).await;
            let bytes: Vec<u8> = match round % 5 {
                0 => b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n".to_vec(),
                1 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
                2 => raw::greeting()[..random.below(64)].to_vec(),
                3 => Vec::new(),
                // Not 0xFF, which begins a greeting.
                _ => (0..random.below(300)).map(|_| random.below(255) as u8).collect(),
            };
            let _ = stream.write_all(&bytes).await;
            if round % 2 == 0 {
                let _ = stream.shutdown().await;
            }
        }
    }));
}

#[test]
fn foreign_greetings_and_introductions_affect_no_other_peer() {
    run(undisturbed(async |client| {
        for kind in ["REQ", "SUB", "PUB", "PAIR", "NOPE", ""] {
            let mut stream = raw::connect(client.endpoint()).await;
            stream.write_all(&raw::greeting()).await.unwrap();
            let property = [&b"\x05READY\x0bSocket-Type\0\0\0"[..], &[kind.len() as u8], kind.as_bytes()].concat();
            stream.write_all(&[&[4, property.len() as u8][..], &property, b"\0\x05hello"].concat()).await.unwrap();
        }
        // Unsupported mechanisms and versions.
        for (at, bytes) in [(12, &b"PLAIN"[..]), (12, b"CURVE"), (10, &[9]), (10, &[2])] {
            let mut greeting = raw::greeting();
            greeting[at..at + bytes.len()].copy_from_slice(bytes);
            let mut stream = raw::connect(client.endpoint()).await;
            stream.write_all(&greeting).await.unwrap();
        }
    }));
}

#[test]
fn foreign_messages_affect_no_other_peer() {
    run(undisturbed(async |client| {
        let mut random = Random(11);
        for _ in 0..50 {
            let mut stranger = Link::dial(client.endpoint()).await;
            for _ in 0..1 + random.below(4) {
                let frames: Vec<Vec<u8>> = (0..1 + random.below(5)).map(|_| random.bytes(200)).collect();
                let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
                let _ = stranger.try_send_frames(&frames).await;
            }
        }
        let counters = client.counters().await;
        eventually("they are counted", async || client.counters().await.malformed_messages >= 50).await;
        assert_eq!(counters.unsolicited_replies, 0);
        assert_eq!(client.workers().len(), 1);
    }));
}

#[test]
fn messages_with_any_byte_changed_or_cut_off_affect_no_other_peer() {
    run(undisturbed(async |client| {
        let call = CallId(1);
        let ready = raw::Ready { services: Vec::new(), ..raw::ready() };
        let messages = [
            Message::Ready(ready.clone()),
            Message::Request(raw::request(1, "ping", "[]")),
            raw::final_reply(call, raw::text("pong")),
            raw::partial_reply(call, 0, raw::text("pong")),
            raw::error_reply(call, xero::proto::message::ErrorCode::Panicked),
            Message::Cancel(call),
            Message::Credit(u32::MAX),
            Message::Subscribe(Subscribe { topic: "news".into(), wanted: true }),
        ];
        let mut random = Random(13);
        let mut link = raw::worker(client.endpoint(), ready.clone()).await;
        for message in &messages {
            let Frames { header, payload } = frame::encode(message);
            for at in 0..header.len() {
                let mut changed = header.to_vec();
                changed[at] ^= 1 << random.below(8);
                for header in [&changed[..], &header[..at]] {
                    if link.try_send_frames(&[header, &payload]).await.is_err() {
                        // The client has dropped the connection because of the message, which is fine.
                        link = raw::worker(client.endpoint(), ready.clone()).await;
                    }
                }
            }
        }
        drop(link);
        eventually("only the good one is left", async || client.workers().len() == 1).await;
        assert_eq!(client.counters().await.late_replies, 0);
    }));
}

#[test]
fn peers_that_break_off_midway_affect_no_other() {
    run(undisturbed(async |client| {
        for rest in [&b"\x01"[..], b"\x00\x20XERO", b"\x02\0\0\0\0\0\0", b"\x01\x00\x01", b"\x04\xffPING"] {
            for _ in 0..5 {
                let mut link = raw::worker(client.endpoint(), raw::ready()).await;
                link.send_bytes(rest).await;
            }
        }
        eventually("they are gone", async || client.workers().len() == 1).await;
    }));
}

#[test]
fn peers_in_wrong_roles_are_refused_with_the_reason() {
    run(undisturbed(async |client| {
        for role in [Role::Client, Role::Dispatcher] {
            let mut link = Link::dial(client.endpoint()).await;
            link.send(&Message::Ready(raw::Ready { role, ..raw::ready() })).await;
            let error = link.receive_error().await;
            assert!(error.detail.contains("worker"), "{}", error.detail);
            assert_eq!(link.receive().await, None);
        }
        assert_eq!(client.workers().len(), 1);
    }));
}

#[test]
fn messages_that_workers_do_not_send_are_only_counted() {
    run(undisturbed(async |client| {
        // Without services, so that it gets no requests.
        let mut link = raw::worker(client.endpoint(), raw::Ready { services: Vec::new(), ..raw::ready() }).await;
        for _ in 0..10 {
            link.send(&Message::Request(raw::request(1, "ping", "[]"))).await;
            link.send(&Message::Cancel(CallId(1))).await;
            link.send(&Message::Subscribe(Subscribe { topic: "".into(), wanted: true })).await;
        }
        // A second introduction replaces the first and is answered.
        link.send(&Message::Ready(raw::Ready { services: Vec::new(), ..raw::ready() })).await;
        assert!(matches!(link.receive_news().await, Some(Message::Ready(_))));
        assert_eq!(client.counters().await.unexpected_messages, 30);
        assert_eq!(client.workers().len(), 2);
    }));
}

#[test]
fn flood_of_unsolicited_replies_affects_no_other_peer() {
    run(undisturbed(async |client| {
        let mut link = raw::worker(client.endpoint(), raw::Ready { services: Vec::new(), ..raw::ready() }).await;
        for id in 1..=5000 {
            link.send(&raw::final_reply(CallId(id), raw::text("stray"))).await;
        }
        eventually("all are counted", async || client.counters().await.unsolicited_replies == 5000).await;
    }));
}

#[test]
fn taken_over_identity_gets_no_messages_of_another_peer() {
    run(undisturbed(async |client| {
        let ready = raw::Ready { services: Vec::new(), ..raw::ready() };
        if Transport::default() == Transport::Zmtp {
            // Peers are known by their connections: each has a place of its own.
            let mut links = Vec::new();
            for expected in 2..4 {
                let mut link = Link::dial_as(client.endpoint(), b"the same").await;
                let incarnation = Uuid::new_v4();
                link.send(&Message::Ready(raw::Ready { incarnation, ..ready.clone() })).await;
                assert!(matches!(link.receive().await, Some(Message::Ready(_))));
                eventually("it is registered", async || client.workers().len() == expected).await;
                links.push(link);
            }
            return;
        }
        let mut first = Link::dial_as(client.endpoint(), b"the same").await;
        first.send(&Message::Ready(ready.clone())).await;
        assert!(matches!(first.receive().await, Some(Message::Ready(_))));
        let mut second = Link::dial_as(client.endpoint(), b"the same").await;
        let _ = second.try_send_frames(&[&frame::encode(&Message::Ready(ready)).header]).await;
        within(PATIENCE, second.ended()).await;
        eventually("neither stays", async || client.workers().len() == 1).await;
    }));
}

#[test]
fn many_silent_connections_affect_no_other_peer() {
    run(undisturbed(async |client| {
        let mut dials = JoinSet::new();
        for _ in 0..100 {
            let endpoint = client.endpoint().to_owned();
            dials.spawn(async move { Link::dial(&endpoint).await });
        }
        let silent = within(PATIENCE, dials.join_all()).await;
        assert_eq!(client.workers().len(), 1);
        drop(silent);
    }));
}

#[test]
fn ping_of_zmtp_cuts_off_at_most_its_sender() {
    run(undisturbed(async |client| {
        let mut link = raw::worker(client.endpoint(), raw::Ready { services: Vec::new(), ..raw::ready() }).await;
        link.send_command(b"\x04PING\x00\x0a").await;
        link.send_command(b"\x04PONG").await;
        link.send_command(b"\x09SUBSCRIBEnews").await;
        // PROTOCOL.md §2: they need not be answered, but they must not affect other peers.
    }));
}

#[test]
fn worker_continues_while_foreign_programs_answer_in_place_of_a_client() {
    run(async {
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("tcp://{}", http.local_addr().unwrap());
        let client = client().await;
        let pause = Duration::from_millis(1);
        let worker = Worker::connect(&endpoint).connect(client.endpoint()).backoff(pause, 20 * pause);
        let worker = worker.serve(prober()).start().unwrap();
        joined(&client, &worker).await;
        let answers: [&[u8]; 5] = [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", &[0xFF; 64], &[0; 300], &raw::greeting()];
        for round in 0..15 {
            let (mut stream, _) = within(PATIENCE, http.accept()).await.unwrap();
            let _ = stream.write_all(answers[round % answers.len()]).await;
            let _ = stream.read(&mut [0; 100]).await;
            assert_eq!(probe(&client).ping().await.unwrap(), "pong");
        }
        assert!(has(&client, &worker));
    });
}

#[test]
fn worker_survives_a_client_that_sends_nonsense() {
    run(async {
        let dispatcher = Dispatcher::bind().await;
        let worker = Worker::connect(&dispatcher.endpoint).serve(prober()).start().unwrap();
        let mut link = dispatcher.register().await;
        let mut random = Random(17);
        let request = Request { call: CallId(1), ..raw::request(1, "add", "[1, 2]") };
        let Frames { header, payload } = frame::encode(&Message::Request(request));
        let mut sent = 0;
        for at in 0..header.len() {
            let mut changed = header.to_vec();
            changed[at] ^= 1 << random.below(8);
            // Kinds that end the connection, such as GOODBYE, have their own tests.
            if at == 5 {
                continue;
            }
            link.send_frames(&[&changed, &payload]).await;
            link.send_frames(&[&random.bytes(100), &random.bytes(100)]).await;
            sent += 1;
        }
        assert!(sent > 40);
        // Whatever happened to it, a good request is answered, and on the same connection.
        link.send(&Message::Request(raw::request(77, "add", "[40, 2]"))).await;
        loop {
            match link.receive_news().await.expect("the connection stands") {
                Message::Final(reply) if reply.call == CallId(77) => break assert_eq!(reply.payload, raw::json("42")),
                Message::Final(_) | Message::Error(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(worker.is_connected());
        assert_eq!(worker.counters().await.redials, 0);
    });
}

/// Numbers that look random and are equal in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("it is below a usize")
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.below(256) as u8).collect()
    }
}
