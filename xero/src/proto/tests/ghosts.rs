//! Connections that a worker may have left behind (`PROTOCOL.md` §5): in doubt until a message arrives on them.

use uuid::Uuid;

use super::{
    bench::Bench,
    network::Net,
    pair::{EXPIRY, INTERVAL, LATENCY, final_reply, ms},
};
use crate::proto::message::{CallId, Message, Peer, Ready};

#[test]
fn returning_worker_is_called_over_its_new_connection_only() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let (old, new) = (net.puppet_with(d, same_process), net.puppet_with(d, same_process));
    let calls: Vec<_> = (0..8).map(|_| net.call(d, "hold")).collect();
    net.run(3 * LATENCY);
    assert_eq!((requests_to(&net, old), requests_to(&net, new).len()), (vec![], 8));
    // The new one is full: the next call waits, and goes to the old one as soon as a message arrives there.
    let waiting = net.call(d, "hold");
    net.run(ms(100));
    assert_eq!(requests_to(&net, old), []);
    net.send_as(old, Message::Heartbeat);
    net.run(3 * LATENCY);
    assert_eq!(requests_to(&net, old), [waiting]);
    calls.iter().for_each(|call| net.send_as(new, final_reply(*call, "done")));
    net.send_as(old, final_reply(waiting, "done"));
    net.run(3 * LATENCY);
    assert_eq!(net.value(waiting), "done");
}

#[test]
fn worker_that_dials_one_dispatcher_twice_is_called_over_both_connections() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let both = [net.puppet_with(d, same_process), net.puppet_with(d, same_process)];
    both.iter().for_each(|puppet| net.send_as(*puppet, Message::Heartbeat));
    net.run(3 * LATENCY);
    let in_a_turn_of_its_own = |net: &mut Net| {
        let call = net.call(d, "hold");
        net.run(3 * LATENCY);
        call
    };
    let calls: Vec<_> = (0..8).map(|_| in_a_turn_of_its_own(&mut net)).collect();
    assert_eq!(both.map(|puppet| requests_to(&net, puppet).len()), [4, 4]);
    // A renewed introduction is not a new connection.
    net.send_as(both[1], Message::Ready(introduction_again()));
    net.run(3 * LATENCY);
    let more: Vec<_> = (0..4).map(|_| in_a_turn_of_its_own(&mut net)).collect();
    assert_eq!(both.map(|puppet| requests_to(&net, puppet).len()), [6, 6]);
    for call in calls.into_iter().chain(more) {
        both.iter().for_each(|puppet| net.send_as(*puppet, final_reply(call, "done")));
    }
    net.run(3 * LATENCY);
}

#[test]
fn requests_of_a_silent_connection_stay_there_until_its_lease_ends() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let shape = |ready: &mut Ready| {
        same_process(ready);
        ready.interval = INTERVAL;
    };
    let old = net.puppet_with(d, shape);
    let call = net.call(d, "safe");
    net.run(3 * LATENCY);
    let new = net.puppet_with(d, shape);
    net.run(ms(100));
    assert_eq!((requests_to(&net, old), requests_to(&net, new)), (vec![call], vec![]));
    for _ in 0..6 {
        net.run(EXPIRY / 6);
        net.send_as(new, Message::Heartbeat);
    }
    net.run(ms(200));
    assert_eq!((net.stands(old), requests_to(&net, new)), (false, vec![call]));
    net.send_as(new, final_reply(call, "done"));
    net.run(3 * LATENCY);
    assert_eq!(net.value(call), "done");
}

#[test]
fn broker_keeps_a_silent_connections_offer_but_sends_it_no_call() {
    let mut bench = Bench::new();
    let (old, client) = (bench.worker_with(same_process), bench.client());
    bench.take(client);
    let new = bench.worker_with(|ready| {
        same_process(ready);
        ready.services.clear();
    });
    bench.run(INTERVAL);
    assert_eq!(bench.take_news(client), [], "nothing else is offered");
    bench.request(client, 1, "hold");
    assert!(bench.requests(old).is_empty() && bench.requests(new).is_empty());
    bench.send_as(old, Message::Heartbeat);
    assert_eq!(bench.requests(old).len(), 1);
}

/// One process with several connections, which may be silent for minutes.
fn same_process(ready: &mut Ready) {
    ready.incarnation = Uuid::from_u64_pair(4, 0);
}

fn introduction_again() -> Ready {
    let mut ready = super::pair::introduction();
    same_process(&mut ready);
    ready
}

/// The calls sent to a puppet.
fn requests_to(net: &Net, puppet: Peer) -> Vec<CallId> {
    net.sent_to_strangers().filter(|sent| sent.peer == puppet).filter_map(|sent| sent.message.request()).collect()
}
