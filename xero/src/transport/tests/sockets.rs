//! Sockets of the operating system: addresses, files, and foreign peers.

use std::{
    net::TcpListener,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::transport::zeromq::raw::RawDealer;

macro_rules! on_both_transports {
    ($($name:ident)*) => {
        mod zmtp { $(#[tokio::test] async fn $name() { super::$name(super::Transport::Zmtp).await })* }
        mod zeromq { $(#[tokio::test] async fn $name() { super::$name(super::Transport::ZeroMq).await })* }
    };
}

on_both_transports! {
    every_form_of_address_can_be_bound_and_connected_to
    errors_say_what_is_wrong_and_name_the_endpoint
    a_silent_or_foreign_listener_differs_from_an_absent_one
    bytes_that_are_not_zeromq_affect_no_peer
    a_killed_peer_is_gone_at_once
    a_router_that_breaks_off_within_a_frame_ends_its_dealer_once
    a_message_with_a_wrong_number_of_frames_is_reported
    a_dropped_router_ends_its_handshakes
    a_socket_file_left_by_a_dead_process_is_replaced
    a_file_that_is_not_a_socket_is_kept
    a_socket_file_is_removed_only_with_its_own_socket
    dial_that_connects_to_itself_fails_at_once_and_closes
    dial_of_a_free_port_keeps_it_from_being_chosen_for_this_end
}

async fn every_form_of_address_can_be_bound_and_connected_to(transport: Transport) {
    for (bind, dials) in [
        ("tcp://*:0", &["tcp://127.0.0.1:", "tcp://[::1]:", "tcp://localhost:"][..]),
        ("tcp://0.0.0.0:0", &["tcp://127.0.0.1:", "tcp://localhost:"]),
        ("tcp://[::]:0", &["tcp://[::1]:"]),
        ("tcp://[::1]:0", &["tcp://[::1]:"]),
        ("tcp://127.0.0.1:0", &["tcp://127.0.0.1:", "tcp://localhost:"]),
        ("tcp://localhost:0", &["tcp://127.0.0.1:", "tcp://localhost:"]),
    ] {
        let mut router = Site::at(transport, bind).bind().await;
        let endpoint = router.endpoint().to_owned();
        let (_, port) = endpoint.rsplit_once(':').expect("a port");
        assert_ne!(port, "0", "{bind}");
        let texts = dials.iter().map(|dial| format!("{dial}{port}")).chain([endpoint.clone()]);
        for text in texts {
            let mut dealer =
                Site::tcp(transport).try_dial(&text).await.unwrap_or_else(|error| panic!("{bind} by {text}: {error}"));
            dealer.send(frames("hello", "")).expect("a send");
            let (peer, _) = message(&mut router).await;
            assert_round_trip(&mut router, &mut dealer, peer).await;
            drop(dealer);
            assert_gone(&mut router, peer).await;
        }
    }
}

async fn errors_say_what_is_wrong_and_name_the_endpoint(transport: Transport) {
    let free = TcpListener::bind("127.0.0.1:0").expect("a listener").local_addr().expect("an address");
    let nobody = format!("tcp://{free}");
    for (text, words) in [
        ("tcp://*:5550", "name the host to connect to"),
        ("tcp://127.0.0.1:0", "port 0 is for binding"),
        ("inproc://*", "for binding"),
        ("tcp://no-such-host.invalid:5550", "cannot look up the host"),
        ("ipc:///no/such/socket", "nothing listens at"),
        (&nobody, "nothing listens at"),
    ] {
        let error = Site::tcp(transport).try_dial(text).await.err().expect(text).to_string();
        assert!(error.contains(text) && error.contains(words), "{error}");
    }
    for (text, words) in [
        ("tcp://192.0.2.1:0", "no such address"),
        ("tcp://no-such-host.invalid:0", "cannot look up the host"),
        ("ipc:///no/such/socket", "directory does not exist"),
    ] {
        let error = Site::tcp(transport).try_bind(text).await.err().expect(text).to_string();
        assert!(error.contains(text) && error.contains(words), "{error}");
    }
}

async fn a_silent_or_foreign_listener_differs_from_an_absent_one(transport: Transport) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let text = format!("tcp://{}", listener.local_addr().expect("an address"));
    let started = Instant::now();
    let error = Site::tcp(transport).try_dial(&text).await.err().expect("an error");
    assert!(matches!(error, TransportError::Silent { .. }), "{error}");
    assert!(started.elapsed() < PATIENCE / 2, "a dial gives up soon");

    let listener = accepting(listener);
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let _ = stream.write_all(&[b'x'; 64]).await;
        }
    });
    let error = Site::tcp(transport).try_dial(&text).await.err().expect("an error");
    assert!(matches!(error, TransportError::WrongProtocol { .. }), "{error}");
    server.abort();
}

async fn bytes_that_are_not_zeromq_affect_no_peer(transport: Transport) {
    let (mut router, mut dealer, peer) = Site::tcp(transport).pair().await;
    let address = router.endpoint().trim_start_matches("tcp://").to_owned();
    let mut greeting_then_garbage = GREETING.to_vec();
    greeting_then_garbage.extend([0xff; 100]);
    let mut ready_then_command = GREETING.to_vec();
    ready_then_command.extend(ready("DEALER"));
    ready_then_command.extend(b"\x04\x05\x04PING");
    let wrong_type = [&GREETING[..], &ready("PUB")].concat();
    for bytes in [
        b"GET /a/path/of/some/length HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".to_vec(),
        vec![0xff; 200],
        greeting_then_garbage,
        ready_then_command,
        wrong_type,
    ] {
        let mut stream = TcpStream::connect(&address).await.expect("a connection");
        stream.write_all(&bytes).await.expect("a write");
        // A ROUTER reads only while it is polled; that ends the stranger.
        let mut rest = Vec::new();
        let of_stranger = |input: &RouterInput| match input {
            RouterInput::Accepted(stranger) | RouterInput::Gone(stranger) => *stranger != peer,
            _ => false,
        };
        tokio::select! {
            _ = within(stream.read_to_end(&mut rest)) => {}
            input = async {
                loop {
                    let input = poll_fn(|cx| router.poll_receive(cx)).await;
                    if !of_stranger(&input) {
                        break input;
                    }
                }
            } => panic!("{input:?}"),
        }
        // The stranger's end may still be to be reported.
        while let Some(input) = poll_once(|cx| router.poll_receive(cx)) {
            assert!(of_stranger(&input), "{input:?}");
        }
        assert_round_trip(&mut router, &mut dealer, peer).await;
    }
}

async fn a_killed_peer_is_gone_at_once(transport: Transport) {
    let mut router = Site::tcp(transport).bind().await;
    for end in [&b""[..], b"\x00\x05par", b"\x01\x01a\x00\x05b"] {
        let mut stream = handshake(&router, b"\x00\x05hello").await;
        let (peer, _) = message(&mut router).await;
        stream.write_all(end).await.expect("a write");
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an option");
        drop(stream);
        assert_gone(&mut router, peer).await;
    }
}

async fn a_router_that_breaks_off_within_a_frame_ends_its_dealer_once(transport: Transport) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let text = format!("tcp://{}", listener.local_addr().expect("an address"));
    let listener = accepting(listener);
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.write_all(&[&GREETING[..], &ready("ROUTER"), b"\x00\x01a\x00\x05par"].concat()).await.expect("a write");
        let mut buffer = [0; 64];
        stream.read_exact(&mut buffer).await.expect("a greeting");
    });
    let mut dealer = Site::tcp(transport).dial(&text).await;
    assert_reply(&mut dealer, &frames("a", "")).await;
    assert_ended(&mut dealer).await;
    assert_eq!(dealer.send(frames("late", "")), Err(SendError::Gone));
    within(server).await.expect("a server");
}

async fn a_message_with_a_wrong_number_of_frames_is_reported(transport: Transport) {
    let (mut router, mut dealer, peer) = Site::tcp(transport).pair().await;
    let mut odd = RawDealer::dial(router.endpoint(), b"odd").await;
    odd.send(vec![Bytes::from_static(b"a"), Bytes::from_static(b"b"), Bytes::from_static(b"c")]).await;
    let odd_peer = match next(&mut router).await {
        RouterInput::WrongFrameCount(odd_peer, 3) => odd_peer,
        input => panic!("{input:?}"),
    };
    router.send(odd_peer, frames("what?", "")).expect("a send");
    assert_eq!(within(odd.receive()).await, [Bytes::from_static(b"what?")]);
    assert_round_trip(&mut router, &mut dealer, peer).await;
}

#[tokio::test]
async fn a_second_connection_under_the_same_identity_is_another_peer() {
    let transport = Transport::ZeroMq;
    let mut router = Site::tcp(transport).bind().await;
    let mut first = RawDealer::dial(router.endpoint(), b"same").await;
    first.send(vec![Bytes::from_static(b"first")]).await;
    let (peer, _) = message(&mut router).await;
    let mut second = RawDealer::dial(router.endpoint(), b"same").await;
    second.send(vec![Bytes::from_static(b"second")]).await;
    assert_gone(&mut router, peer).await;
    assert_eq!(router.send(peer, frames("for the first", "")), Err(SendError::Gone));
    let mut third = RawDealer::dial(router.endpoint(), b"same").await;
    third.send(vec![Bytes::from_static(b"third")]).await;
    let (third_peer, received) = message(&mut router).await;
    assert_eq!(received, frames("third", ""));
    assert_ne!(third_peer, peer);
}

#[tokio::test]
async fn a_send_after_a_take_over_is_dropped() {
    let transport = Transport::ZeroMq;
    let mut router = Site::tcp(transport).bind().await;
    let mut first = RawDealer::dial(router.endpoint(), b"same").await;
    first.send(vec![Bytes::from_static(b"first")]).await;
    let (peer, _) = message(&mut router).await;
    let mut second = TcpStream::connect(router.endpoint().trim_start_matches("tcp://")).await.expect("a connection");
    let introduction = [&GREETING[..], &ready_as("DEALER", "same")].concat();
    second.write_all(&introduction).await.expect("a write");
    let error = loop {
        match router.send(peer, frames("for the first", "")) {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert_eq!(error, SendError::Gone);
    assert_gone(&mut router, peer).await;
    let mut received = Vec::new();
    within(second.read_to_end(&mut received)).await.expect("the end of the connection");
    assert_eq!(received, [&GREETING[..], &ready("ROUTER")].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_close_while_they_are_flooded_block_no_thread() {
    for transport in TRANSPORTS {
        flood_and_close(transport).await;
    }
}

async fn flood_and_close(transport: Transport) {
    let mut router = Site::tcp(transport).bind().await;
    for _ in 0..20 {
        let mut streams = Vec::new();
        let mut peers = Vec::new();
        for _ in 0..2 {
            streams.push(handshake(&router, b"\x00\x05hello").await);
            peers.push(message(&mut router).await.0);
        }
        let closer = std::thread::spawn(move || drop(streams));
        for peer in &peers {
            while router.send(*peer, frames("flood", "some payload that fills the buffers sooner")).is_ok() {}
        }
        closer.join().expect("a thread");
        let mut gone = std::collections::BTreeSet::new();
        while gone.len() < peers.len() {
            if let RouterInput::Gone(peer) = next(&mut router).await {
                gone.insert(peer);
            }
        }
    }
}

async fn a_dropped_router_ends_its_handshakes(transport: Transport) {
    let router = Site::tcp(transport).bind().await;
    let address = router.endpoint().trim_start_matches("tcp://").to_owned();
    let mut stream = TcpStream::connect(&address).await.expect("a connection");
    stream.write_all(&GREETING).await.expect("a write");
    let mut buffer = [0; 64];
    within(stream.read_exact(&mut buffer)).await.expect("a greeting");
    drop(router);
    let _ = stream.write_all(&ready("DEALER")).await;
    // Whether the end is orderly or a reset depends on what was unread.
    let _ = within(stream.read_to_end(&mut Vec::new())).await;
}

async fn a_socket_file_left_by_a_dead_process_is_replaced(transport: Transport) {
    let site = Site::ipc(transport);
    let path = site.text.trim_start_matches("ipc://");
    drop(std::os::unix::net::UnixListener::bind(path).expect("a socket file"));
    assert!(Path::new(path).exists());
    let (mut router, mut dealer, peer) = site.pair().await;
    assert_round_trip(&mut router, &mut dealer, peer).await;
}

async fn a_file_that_is_not_a_socket_is_kept(transport: Transport) {
    let site = Site::ipc(transport);
    let path = site.text.trim_start_matches("ipc://");
    std::fs::write(path, "precious").expect("a file");
    let error = Site::tcp(transport).try_bind(&site.text).await.err().expect("an error");
    assert!(matches!(error, TransportError::NotASocket { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(path).expect("the file"), "precious");
}

async fn a_socket_file_is_removed_only_with_its_own_socket(transport: Transport) {
    let site = Site::ipc(transport);
    let path = site.text.trim_start_matches("ipc://");
    let entries = || std::fs::read_dir(site.directory.as_ref().expect("a directory")).expect("entries").count();
    let before = site.bind().await;
    assert_eq!(entries(), 1, "nothing but the socket is left in the directory");
    std::fs::remove_file(path).expect("the file");
    let (mut router, mut dealer, peer) = site.pair().await;
    drop(before);
    assert!(Path::new(path).exists());
    assert_round_trip(&mut router, &mut dealer, peer).await;
    drop(router);
    assert_eq!(entries(), 0);
}

/// Greets a ROUTER as a DEALER does, then sends these bytes.
pub(in crate::transport) async fn handshake(router: &Router, then: &[u8]) -> TcpStream {
    let address = router.endpoint().trim_start_matches("tcp://");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(&[&GREETING[..], &ready("DEALER"), then].concat()).await.expect("a write");
    stream
}

fn accepting(listener: TcpListener) -> tokio::net::TcpListener {
    listener.set_nonblocking(true).expect("an option");
    tokio::net::TcpListener::from_std(listener).expect("a listener")
}

/// A READY command (ZMTP 3.0).
pub(in crate::transport) fn ready(socket_type: &str) -> Vec<u8> {
    command(&property("Socket-Type", socket_type))
}

fn ready_as(socket_type: &str, identity: &str) -> Vec<u8> {
    command(&[property("Socket-Type", socket_type), property("Identity", identity)].concat())
}

fn property(name: &str, value: &str) -> Vec<u8> {
    let byte = |text: &str| u8::try_from(text.len()).expect("a short text");
    [&[byte(name)], name.as_bytes(), &[0, 0, 0, byte(value)], value.as_bytes()].concat()
}

fn command(properties: &[u8]) -> Vec<u8> {
    let body = [b"\x05READY", properties].concat();
    let mut command = vec![4, u8::try_from(body.len()).expect("a short command")];
    command.extend(body);
    command
}

/// ZMTP 3.0, NULL mechanism.
pub(in crate::transport) const GREETING: [u8; 64] = {
    let mut bytes = [0; 64];
    bytes[0] = 0xff;
    bytes[9] = 0x7f;
    bytes[10] = 3;
    let mechanism = b"NULL";
    let mut n = 0;
    while n < mechanism.len() {
        bytes[12 + n] = mechanism[n];
        n += 1;
    }
    bytes
};

/// The view of a socket that is connected to itself: everything that it writes comes back.
async fn dial_that_connects_to_itself_fails_at_once_and_closes(transport: Transport) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let text = format!("tcp://{}", listener.local_addr().expect("an address"));
    let mirror = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await
    });
    let error = Site::tcp(transport).try_dial(&text).await.err().expect("nobody is there");
    assert!(matches!(&error, TransportError::SelfConnected { endpoint } if endpoint.to_string() == text), "{error}");
    assert!(mirror.await.expect("it ends").is_ok_and(|bytes| bytes > 0), "the connection has ended");
}

#[cfg(not(windows))]
async fn dial_of_a_free_port_keeps_it_from_being_chosen_for_this_end(transport: Transport) {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    // Without the option for shared addresses, binding fails if anybody has the port.
    let is_free = || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&address.into()).is_ok()
    };
    // A refused dial may end before anyone looks, so it is repeated.
    let (text, seen) = (format!("tcp://{address}"), Arc::new(AtomicBool::new(false)));
    let stop = Arc::clone(&seen);
    let dials = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        while !stop.load(Ordering::Relaxed) {
            let error = runtime.block_on(Site::tcp(transport).try_dial(&text)).err();
            assert!(matches!(error, Some(TransportError::Refused { .. })), "{error:?}");
        }
    });
    within(async {
        while is_free() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    seen.store(true, Ordering::Relaxed);
    dials.join().expect("every dial is refused");
    assert!(is_free());
}
