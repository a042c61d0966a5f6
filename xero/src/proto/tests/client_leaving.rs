//! A client that leaves its brokers: closed at once, or drained.

use std::time::Duration;

use super::{
    client::{A, B, Client, GRACE, broker},
    pair::{CALL_TIMEOUT, INTERVAL, TICK, final_reply, value},
};
use crate::proto::{
    calls::CallFailure,
    message::{CallId, Message, Peer},
    retry::BackoffConfig,
};

#[test]
fn close_ends_connections_in_every_state_and_nothing_is_dialed_again() {
    let mut client = Client::new(4);
    client.run(Duration::ZERO);
    let (dialing, introducing, up, down) = (A, B, Peer(2), Peer(3));
    client.connect(introducing);
    client.connect(up);
    client.send_as(up, Message::Ready(broker()));
    client.machine.handle_disconnected(client.now, down);
    client.call(1);
    client.sent(up);
    client.sent(introducing);
    client.take_dials();
    client.machine.close(client.now);
    client.settle();
    assert_eq!(client.end(1), Err(CallFailure::Closed { maybe_executed: true }));
    assert_eq!((client.sent(up), client.sent(introducing)), (vec![Message::Goodbye], vec![]));
    assert!(!client.stands(introducing) && client.stands(up));
    client.connect(dialing);
    assert!(!client.stands(dialing) && client.sent(dialing).is_empty(), "hung up on before a word");
    client.send_as(introducing, Message::Ready(broker()));
    client.run(GRACE - TICK);
    assert_eq!((client.closed_at, client.dialed()), (None, vec![]));
    client.run(TICK);
    assert_eq!((client.closed_at, client.stands(up)), (Some(client.now), false));
}

#[test]
fn draining_client_lets_its_calls_end_and_still_dials_for_them() {
    let mut client = Client::new(1);
    client.call_with(1, |spec| spec.idempotent = Some(true));
    client.machine.drain(client.now, 4 * CALL_TIMEOUT);
    client.call(2);
    assert_eq!(client.end(2), Err(CallFailure::Closed { maybe_executed: false }));
    client.run(Duration::ZERO);
    client.connect(A);
    client.send_as(A, Message::Ready(broker()));
    client.lose(A);
    client.take_dials();
    client.run(BackoffConfig::default().first);
    client.connect(A);
    client.sent(A);
    client.send_as(A, Message::Ready(broker()));
    assert_eq!(client.requests(), [(A, 1)], "again");
    client.send_as(A, final_reply(CallId(1), "done"));
    client.run(Duration::ZERO);
    assert_eq!((client.end(1), client.sent(A)), (Ok(value("done")), vec![Message::Goodbye]));
    client.send_as(A, Message::Goodbye);
    assert_eq!(client.closed_at, Some(client.now));
}

#[test]
fn drain_of_a_client_ends_exactly_at_its_timeout() {
    let mut client = Client::connected(1);
    client.call(1);
    client.requests();
    client.machine.drain(client.now, INTERVAL / 2);
    client.machine.drain(client.now, 9 * INTERVAL);
    client.run(INTERVAL / 2 - TICK);
    assert!(client.ends.is_empty());
    client.run(TICK);
    assert_eq!(client.end(1), Err(CallFailure::Closed { maybe_executed: true }));
    assert_eq!(client.sent(A), [Message::Goodbye]);
}

#[test]
fn draining_client_leaves_at_once_without_a_call_or_after_cancelling_the_last() {
    let mut client = Client::connected(1);
    client.machine.drain(client.now, CALL_TIMEOUT);
    client.run(Duration::ZERO);
    assert_eq!(client.sent(A), [Message::Goodbye]);
    let mut client = Client::connected(1);
    client.call(1);
    client.requests();
    client.machine.drain(client.now, CALL_TIMEOUT);
    client.machine.cancel(client.now, CallId(1));
    client.run(Duration::ZERO);
    assert_eq!(client.sent(A), [Message::Cancel(CallId(1)), Message::Goodbye]);
}

#[test]
fn close_during_a_drain_ends_the_calls_now() {
    let mut client = Client::connected(1);
    client.call(1);
    client.requests();
    client.machine.drain(client.now, CALL_TIMEOUT);
    client.machine.close(client.now);
    client.machine.drain(client.now, CALL_TIMEOUT);
    client.machine.close(client.now);
    client.settle();
    assert_eq!(client.end(1), Err(CallFailure::Closed { maybe_executed: true }));
    assert_eq!(client.sent(A), [Message::Goodbye]);
    client.lose(A);
    assert_eq!(client.closed_at, Some(client.now));
}
