//! What a hostile ROUTER does to our own DEALER over real sockets.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    sockets::{GREETING, ready},
    *,
};

/// An endpoint whose listener writes these bytes to whoever connects, and reads until that peer hangs up.
async fn hostile(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        // The peer may hang up before it has read everything.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    format!("tcp://{address}")
}

/// A connection whose handshake is followed by these bytes.
async fn greeted(bytes: &[u8]) -> Dealer {
    let endpoint = hostile([&GREETING[..], &ready("ROUTER"), bytes].concat()).await;
    Site::tcp(Transport::Zmtp).dial(&endpoint).await
}

/// The head of a long frame.
fn declared(flags: u8, length: u64) -> Vec<u8> {
    [flags | 2].into_iter().chain(length.to_be_bytes()).collect()
}

#[tokio::test]
async fn declared_lengths_fail_the_dial_or_end_the_connection() {
    for exponent in 32..64 {
        for flags in [0, 1, 4] {
            let frame = declared(flags, 1 << exponent);
            for opening in [frame.clone(), [&GREETING[..], &frame].concat()] {
                let dialed = Site::tcp(Transport::Zmtp).try_dial(&hostile(opening).await).await.err();
                // A frame in place of the greeting is shorter than that, so the rest is waited for.
                let is_refused =
                    matches!(dialed, Some(TransportError::WrongProtocol { .. } | TransportError::Silent { .. }));
                assert!(is_refused, "2^{exponent}, flags {flags}: {dialed:?}");
            }
            assert_ended(&mut greeted(&frame).await).await;
            let mut later = greeted(&[&b"\x00\x05hello"[..], &frame].concat()).await;
            assert_reply(&mut later, &frames("hello", "")).await;
            assert_ended(&mut later).await;
        }
    }
}

#[tokio::test]
async fn large_and_many_properties_fail_the_dial() {
    for ready in [
        [declared(4, 12 << 20), b"\x05READY".to_vec(), vec![0; 1 << 20]].concat(),
        [declared(4, 6 + 600 * 6), b"\x05READY".to_vec(), b"\x01x\0\0\0\0".repeat(600)].concat(),
        [&b"\x04\x0c\x05READY\x01x"[..], b"\xff\xff\xff\xff"].concat(),
    ] {
        let endpoint = hostile([&GREETING[..], &ready].concat()).await;
        let dialed = Site::tcp(Transport::Zmtp).try_dial(&endpoint).await.err();
        assert!(matches!(dialed, Some(TransportError::WrongProtocol { .. })), "{dialed:?}");
    }
}

#[tokio::test]
async fn endless_message_ends_the_connection() {
    assert_ended(&mut greeted(&b"\x01\x01x".repeat(10_000)).await).await;
}

#[tokio::test]
async fn second_introduction_or_unknown_flags_end_the_connection() {
    for bytes in [&ready("ROUTER")[..], b"\x08\x01x", b"\xf0\x01x"] {
        assert_ended(&mut greeted(bytes).await).await;
    }
}

#[tokio::test]
async fn message_over_a_limit_is_reported_and_the_next_one_arrives() {
    // A first message may not be large.
    let large = [b"\x00\x05first\x01\x01h".to_vec(), declared(0, (64 << 20) + 1), vec![7; (64 << 20) + 1]].concat();
    let mut dealer = greeted(&[&large[..], b"\x00\x05hello"].concat()).await;
    assert_reply(&mut dealer, &frames("first", "")).await;
    let input = reply(&mut dealer).await;
    assert!(
        matches!(&input, DealerInput::Oversized(oversized) if oversized.payload_bytes == (64 << 20) + 1),
        "{input:?}"
    );
    assert_reply(&mut dealer, &frames("hello", "")).await;
}

#[tokio::test]
async fn unended_message_of_a_silent_router_is_dropped_with_its_connection() {
    let mut dealer =
        greeted(&[b"\x00\x05first\x01\x01h".to_vec(), declared(0, 64 << 20), vec![7; 100_000]].concat()).await;
    assert_reply(&mut dealer, &frames("first", "")).await;
    dealer.send(frames("there", "")).expect("a send");
    let is_pending = poll_fn(|cx| Poll::Ready(dealer.poll_receive(cx).is_pending())).await;
    assert!(is_pending);
    drop(dealer);
}
