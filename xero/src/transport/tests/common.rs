//! Tests that every transport passes.

use super::*;

macro_rules! on_every_transport {
    ($($name:ident)*) => {
        mod memory { $(#[test] fn $name() { super::run(|| super::$name(super::Site::memory())); })* }
        mod tcp { $(#[test] fn $name() { super::run(|| super::$name(super::Site::tcp(super::Transport::Zmtp))); })* }
        mod ipc { $(#[test] fn $name() { super::run(|| super::$name(super::Site::ipc(super::Transport::Zmtp))); })* }
        mod zeromq_tcp {
            $(#[test] fn $name() { super::run(|| super::$name(super::Site::tcp(super::Transport::ZeroMq))); })*
        }
        mod zeromq_ipc {
            $(#[test] fn $name() { super::run(|| super::$name(super::Site::ipc(super::Transport::ZeroMq))); })*
        }
    };
}

on_every_transport! {
    messages_go_both_ways_with_and_without_payload
    a_large_payload_arrives_unchanged
    messages_keep_their_order
    many_peers_are_distinguished
    a_dealer_that_leaves_is_gone_once_after_its_last_message
    a_router_that_leaves_ends_its_dealers
    a_send_to_a_peer_that_is_gone_fails
    a_peer_that_is_disconnected_still_gets_what_was_sent
    a_peer_that_comes_back_has_another_number
    a_lone_peer_that_never_reads_is_dropped
    a_peer_that_never_reads_delays_no_other
    a_router_that_never_reads_ends_its_dealer
    an_end_is_reported_amid_a_flood_of_messages
    an_endpoint_is_free_as_soon_as_its_socket_is_dropped
    an_endpoint_is_bound_once_at_a_time
    a_dial_without_a_listener_is_refused
    sockets_on_other_threads_are_woken
}

async fn messages_go_both_ways_with_and_without_payload(site: Site) {
    let (mut router, mut dealer, peer) = site.pair().await;
    assert_round_trip(&mut router, &mut dealer, peer).await;
    dealer.send(frames("alone", "")).expect("a send");
    assert_eq!(message(&mut router).await, (peer, frames("alone", "")));
    router.send(peer, frames("alone", "")).expect("a send");
    assert_reply(&mut dealer, &frames("alone", "")).await;
}

async fn a_large_payload_arrives_unchanged(site: Site) {
    let (mut router, mut dealer, peer) = site.pair().await;
    // The first message of a connection is small.
    assert_round_trip(&mut router, &mut dealer, peer).await;
    let bytes: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    let large = Frames { header: Bytes::from_static(b"large"), payload: bytes.into() };
    dealer.send(large.clone()).expect("a send");
    let received = alongside(|cx| dealer.poll_receive(cx).is_pending(), message(&mut router)).await;
    assert_eq!(received, (peer, large.clone()));
    router.send(peer, large.clone()).expect("a send");
    alongside(|cx| router.poll_receive(cx).is_pending(), assert_reply(&mut dealer, &large)).await;
}

async fn messages_keep_their_order(site: Site) {
    let (mut router, mut dealer, peer) = site.pair().await;
    let texts: Vec<_> = (0..1_000).map(|n| frames(&n.to_string(), "")).collect();
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

async fn many_peers_are_distinguished(site: Site) {
    let mut router = site.bind().await;
    let mut dealers = Vec::new();
    for n in 0..100 {
        let mut dealer = site.dial(router.endpoint()).await;
        dealer.send(frames(&n.to_string(), "")).expect("a send");
        dealers.push(dealer);
    }
    let mut peers = std::collections::BTreeSet::new();
    for _ in 0..dealers.len() {
        let (peer, frames) = message(&mut router).await;
        peers.insert(peer);
        router.send(peer, frames).expect("a send");
    }
    assert_eq!(peers.len(), dealers.len());
    for (n, dealer) in dealers.iter_mut().enumerate() {
        assert_reply(dealer, &frames(&n.to_string(), "")).await;
    }
}

async fn a_dealer_that_leaves_is_gone_once_after_its_last_message(site: Site) {
    let (mut router, mut dealer, peer) = site.pair().await;
    let (mut other, other_peer) = site.join(&mut router).await;
    for n in 0..10 {
        dealer.send(frames(&n.to_string(), "")).expect("a send");
    }
    drop(dealer);
    for n in 0..10 {
        assert_eq!(message(&mut router).await, (peer, frames(&n.to_string(), "")));
    }
    assert_gone(&mut router, peer).await;
    assert_round_trip(&mut router, &mut other, other_peer).await;
}

async fn a_router_that_leaves_ends_its_dealers(site: Site) {
    let (mut router, mut dealer, peer) = site.pair().await;
    router.send(peer, frames("last", "")).expect("a send");
    drop(router);
    assert_reply(&mut dealer, &frames("last", "")).await;
    assert_ended(&mut dealer).await;
    assert_eq!(dealer.send(frames("late", "")), Err(SendError::Gone));
}

async fn a_send_to_a_peer_that_is_gone_fails(site: Site) {
    let (mut router, dealer, peer) = site.pair().await;
    drop(dealer);
    assert_gone(&mut router, peer).await;
    assert_eq!(router.send(peer, frames("late", "")), Err(SendError::Gone));
    assert_eq!(router.send(Peer(u64::MAX), frames("never", "")), Err(SendError::Gone));
    router.disconnect(peer);
    let (mut other, other_peer) = site.join(&mut router).await;
    assert_round_trip(&mut router, &mut other, other_peer).await;
}

async fn a_peer_that_is_disconnected_still_gets_what_was_sent(site: Site) {
    let (mut router, mut dealer, peer) = site.pair().await;
    for n in 0..1_000 {
        router.send(peer, frames(&n.to_string(), "")).expect("a send");
    }
    router.disconnect(peer);
    assert_eq!(router.send(peer, frames("late", "")), Err(SendError::Gone));
    for n in 0..1_000 {
        assert_reply(&mut dealer, &frames(&n.to_string(), "")).await;
    }
    assert_ended(&mut dealer).await;
}

async fn a_peer_that_comes_back_has_another_number(site: Site) {
    let (mut router, dealer, before) = site.pair().await;
    drop(dealer);
    assert_gone(&mut router, before).await;
    let (mut dealer, after) = site.join(&mut router).await;
    assert_ne!(before, after);
    assert_round_trip(&mut router, &mut dealer, after).await;
}

async fn a_lone_peer_that_never_reads_is_dropped(site: Site) {
    let (mut router, dealer, peer) = site.pair().await;
    fill(|| router.0.send(peer, frames("more", "")));
    assert_gone(&mut router, peer).await;
    assert_eq!(router.send(peer, frames("late", "")), Err(SendError::Gone));
    drop(dealer);
    let (mut other, other_peer) = site.join(&mut router).await;
    assert_round_trip(&mut router, &mut other, other_peer).await;
}

async fn a_peer_that_never_reads_delays_no_other(site: Site) {
    let (mut router, mut stuck, peer) = site.pair().await;
    let (mut other, other_peer) = site.join(&mut router).await;
    let taken = fill(|| router.0.send(peer, frames("more", "")));
    router.send(other_peer, frames("meanwhile", "")).expect("a send");
    assert_gone(&mut router, peer).await;
    assert_reply(&mut other, &frames("meanwhile", "")).await;
    assert_round_trip(&mut router, &mut other, other_peer).await;
    // If it reads after all, it gets its queued messages, and then the end.
    for _ in 0..taken {
        assert_reply(&mut stuck, &frames("more", "")).await;
    }
}

async fn a_router_that_never_reads_ends_its_dealer(site: Site) {
    let (router, mut dealer, _) = site.pair().await;
    fill(|| dealer.0.send(frames("more", "")));
    assert_ended(&mut dealer).await;
    assert_eq!(dealer.send(frames("late", "")), Err(SendError::Gone));
    drop(router);
}

async fn an_end_is_reported_amid_a_flood_of_messages(site: Site) {
    let (mut router, mut flood, flood_peer) = site.pair().await;
    let (leaver, leaver_peer) = site.join(&mut router).await;
    drop(leaver);
    for _ in 0..10_000 {
        flood.send(frames("flood", "")).expect("a send");
    }
    for n in 0..100_000 {
        // As a driver does after each turn.
        if n % 512 == 0 {
            tokio::task::yield_now().await;
        }
        match alongside(|cx| flood.poll_receive(cx).is_pending(), next(&mut router)).await {
            RouterInput::Frames(peer, _) => assert_eq!(peer, flood_peer),
            RouterInput::Gone(peer) => return assert_eq!(peer, leaver_peer),
            input => panic!("{input:?}"),
        }
        flood.send(frames("flood", "")).expect("a send");
    }
    panic!("the end of {leaver_peer:?} waits behind the flood");
}

async fn an_endpoint_is_free_as_soon_as_its_socket_is_dropped(site: Site) {
    let mut router = site.bind().await;
    let text = router.endpoint().to_owned();
    for _ in 0..3 {
        let (dealer, _) = site.join(&mut router).await;
        drop(router);
        router = site.try_bind(&text).await.expect("the endpoint to be free");
        drop(dealer);
    }
    let (mut dealer, peer) = site.join(&mut router).await;
    assert_round_trip(&mut router, &mut dealer, peer).await;
}

async fn an_endpoint_is_bound_once_at_a_time(site: Site) {
    let mut router = site.bind().await;
    let error = site.try_bind(router.endpoint()).await.err().expect("an error");
    assert!(matches!(error, TransportError::AddressInUse { .. }), "{error}");
    assert!(error.to_string().contains(router.endpoint()), "{error}");
    let (mut dealer, peer) = site.join(&mut router).await;
    assert_round_trip(&mut router, &mut dealer, peer).await;
}

async fn a_dial_without_a_listener_is_refused(site: Site) {
    let router = site.bind().await;
    let text = router.endpoint().to_owned();
    drop(router);
    let error = site.try_dial(&text).await.err().expect("an error");
    assert!(matches!(error, TransportError::Refused { .. }), "{error}");
    assert!(error.to_string().contains(&text), "{error}");
}

async fn sockets_on_other_threads_are_woken(site: Site) {
    let mut router = site.bind().await;
    let text = router.endpoint().to_owned();
    let echo = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut dealer = site.dial(&text).await;
            dealer.send(frames("hello", "")).expect("a send");
            while let DealerInput::Frames(frames) = reply(&mut dealer).await {
                dealer.send(frames).expect("a send");
            }
        });
    });
    let (peer, _) = message(&mut router).await;
    for n in 0..100 {
        router.send(peer, frames(&n.to_string(), "")).expect("a send");
        assert_eq!(message(&mut router).await, (peer, frames(&n.to_string(), "")));
    }
    drop(router);
    within(tokio::task::spawn_blocking(|| echo.join())).await.expect("a task").expect("a thread");
}

/// Runs a test on a thread of its own: so it also fails on a deadlock inside a socket's method, where no timeout
/// applies.
fn run<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let (done, finished) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test());
        let _ = done.send(());
    });
    match finished.recv_timeout(2 * PATIENCE) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("a thread is blocked"),
        // A panic, which continues here, has dropped the other end.
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

/// Sends without letting any task run until the far side counts as stuck; returns the number of accepted messages.
fn fill(mut send: impl FnMut() -> Result<(), SendError>) -> usize {
    for taken in 0..FILL_MAX {
        match send() {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error, SendError::Stuck);
                return taken;
            }
        }
    }
    panic!("{FILL_MAX} messages were taken: the queue of a peer is no longer what it was");
}

/// A little more than the hundred thousand messages that a queue holds.
const FILL_MAX: usize = 100_100;
