//! Connections of a side that dials.

use super::*;
use crate::{
    io::machine::{Connections, Input},
    transport::dealers::Dealers,
};

#[tokio::test]
async fn each_endpoint_is_a_peer_with_a_connection_of_its_own() {
    let mut routers = [Site::memory().bind().await, Site::tcp(Transport::Zmtp).bind().await];
    let mut dealers = dealers_of(routers.iter().map(|router| router.endpoint()));
    for (peer, router) in (0..).map(Peer).zip(&mut routers) {
        dealers.dial(peer);
        assert_dialed(&mut dealers, peer).await;
        dealers.send(peer, frames("hello", "")).expect("a send");
        dealers.flush();
        let (dealer, _) = message(router).await;
        router.send(dealer, frames(&peer.0.to_string(), "")).expect("a send");
        assert_received(&mut dealers, peer, &peer.0.to_string()).await;
    }
    drop(routers);
    let mut ended = vec![assert_ended(&mut dealers).await, assert_ended(&mut dealers).await];
    ended.sort();
    assert_eq!(ended, [Peer(0), Peer(1)]);
}

#[tokio::test]
async fn failed_dial_ends_the_connection_and_may_be_repeated() {
    let mut router = Site::memory().bind().await;
    let endpoint = router.endpoint().to_owned();
    drop(router);
    let mut dealers = dealers_of([endpoint.as_str()].into_iter());
    for _ in 0..2 {
        dealers.dial(Peer(0));
        assert_eq!(assert_ended(&mut dealers).await, Peer(0));
        assert_eq!(dealers.send(Peer(0), frames("nobody", "")), Err(SendError::Gone));
    }
    router = Site::memory().try_bind(&endpoint).await.expect("a free name");
    dealers.dial(Peer(0));
    assert_dialed(&mut dealers, Peer(0)).await;
    dealers.send(Peer(0), frames("somebody", "")).expect("a send");
    assert_eq!(message(&mut router).await.1, frames("somebody", ""));
}

#[tokio::test]
async fn ended_connection_reports_nothing_more_and_delivers_what_was_sent() {
    let mut router = Site::memory().bind().await;
    let mut dealers = dealers_of([router.endpoint()].into_iter());
    dealers.dial(Peer(0));
    assert_dialed(&mut dealers, Peer(0)).await;
    dealers.send(Peer(0), frames("last", "")).expect("a send");
    let (peer, _) = message(&mut router).await;
    router.send(peer, frames("unread", "")).expect("a send");
    dealers.disconnect(Peer(0));
    assert_gone(&mut router, peer).await;
    dealers.dial(Peer(0));
    assert_dialed(&mut dealers, Peer(0)).await;
}

#[tokio::test]
async fn flood_from_one_peer_hides_neither_another_nor_a_new_connection() {
    let mut routers = [Site::memory().bind().await, Site::memory().bind().await, Site::memory().bind().await];
    let mut dealers = dealers_of(routers.iter().map(|router| router.endpoint()));
    for (peer, router) in (0..).map(Peer).zip(&mut routers[..2]) {
        dealers.dial(peer);
        assert_dialed(&mut dealers, peer).await;
        dealers.send(peer, frames("hello", "")).expect("a send");
        let (dealer, _) = message(router).await;
        for _ in 0..if peer == Peer(0) { 1_000 } else { 1 } {
            router.send(dealer, frames("more", "")).expect("a send");
        }
    }
    dealers.dial(Peer(2));
    assert_dialed(&mut dealers, Peer(2)).await;
    let mut from = Vec::new();
    for _ in 0..2 {
        match input(&mut dealers).await {
            (peer, Input::Frames(_)) => from.push(peer),
            other => panic!("{other:?}"),
        }
    }
    from.sort();
    assert_eq!(from, [Peer(0), Peer(1)]);
}

fn dealers_of<'a>(endpoints: impl Iterator<Item = &'a str>) -> Dealers {
    let endpoints = endpoints.map(|text| text.parse().expect("an endpoint")).collect();
    Dealers::new(endpoints, Sockets::new(Transport::Zmtp, Limits::default()))
}

async fn input(dealers: &mut Dealers) -> (Peer, Input) {
    within(poll_fn(|cx| dealers.poll_receive(cx))).await
}

async fn assert_dialed(dealers: &mut Dealers, expected: Peer) {
    match input(dealers).await {
        (peer, Input::Dialed) => assert_eq!(peer, expected),
        other => panic!("{other:?} instead of a connection"),
    }
}

async fn assert_received(dealers: &mut Dealers, expected: Peer, text: &str) {
    match input(dealers).await {
        (peer, Input::Frames(received)) => {
            assert_eq!((peer, received), (expected, frames(text, "")));
        }
        other => panic!("{other:?} instead of a message"),
    }
}

async fn assert_ended(dealers: &mut Dealers) -> Peer {
    match input(dealers).await {
        (peer, Input::Gone) => peer,
        other => panic!("{other:?} instead of an end"),
    }
}
