//! Allocations of a call in the core alone: none.

use std::time::{Duration, Instant};

use allocation_counter::measure;
use uuid::Uuid;
use xero::proto::{
    broker::{Broker, BrokerConfig, Door},
    calls::{CallSpec, WaitPolicy},
    dispatch::{Dispatcher, DispatcherConfig, Output},
    message::{
        CallId, Capabilities, Codec, FinalReply, Message, MethodOffer, Payload, Peer, Ready, Request, Role,
        ServiceOffer,
    },
};

#[test]
fn call_at_a_dispatcher_allocates_nothing() {
    let now = Instant::now();
    let mut dispatcher = Dispatcher::new(DispatcherConfig::default());
    dispatcher.handle_message(now, WORKER, Message::Ready(ready(Role::Worker)));
    let spec = CallSpec {
        service: "Demo".into(),
        method: "ping".into(),
        fingerprint: 7,
        idempotent: None,
        must_declare: false,
        wait_policy: WaitPolicy::UntilDeadline,
        owner: 0,
        attempts_before: 0,
        deadline: now + Duration::from_secs(5),
        metadata: Default::default(),
        payload: Payload::default(),
    };
    let mut last = 0;
    let mut call = || {
        last += 1;
        let id = CallId(last);
        dispatcher.call(now, id, spec.clone());
        while let Some(sent) = dispatcher.poll_transmit() {
            dispatcher.recycle(sent);
        }
        dispatcher.handle_message(now, WORKER, reply(id));
        let mut is_ended = false;
        while let Some(output) = dispatcher.poll_output() {
            if let Output::Ended(_, Ok(_), receipt) = output {
                is_ended = true;
                dispatcher.release(now, receipt);
            }
        }
        assert!(is_ended, "call {last} has not ended with its reply");
    };
    assert_eq!(allocations_of_each(&mut call), 0);
}

#[test]
fn call_through_a_broker_allocates_nothing() {
    const CLIENT: Peer = Peer(1);
    let now = Instant::now();
    let mut broker = Broker::new(BrokerConfig::default());
    broker.handle_message(now, Door::Back, WORKER, Message::Ready(ready(Role::Worker)));
    broker.handle_message(now, Door::Front, CLIENT, Message::Ready(ready(Role::Client)));
    let request = Request {
        call: CallId(1),
        attempt: 1,
        idempotent: false,
        as_declared: true,
        fail_fast: false,
        service: "Demo".into(),
        method: "ping".into(),
        fingerprint: 7,
        remaining: Duration::from_secs(5),
        metadata: Default::default(),
        payload: Payload::default(),
    };
    let mut last = 0;
    let mut call = || {
        last += 1;
        let request = Request { call: CallId(last), ..request.clone() };
        broker.handle_message(now, Door::Front, CLIENT, Message::Request(request));
        let passed_on = poll(&mut broker, Message::request).expect("a request for the worker");
        broker.handle_message(now, Door::Back, WORKER, reply(passed_on));
        assert_eq!(poll(&mut broker, Message::reply), Some(CallId(last)));
        while broker.poll_output().is_some() {}
    };
    assert_eq!(allocations_of_each(&mut call), 0);
}

/// Sends what is to be sent; returns the call of the last message of that kind.
fn poll(broker: &mut Broker, call_of: fn(&Message) -> Option<CallId>) -> Option<CallId> {
    let mut last = None;
    while let Some((door, transmit)) = broker.poll_transmit() {
        last = transmit.messages.iter().filter_map(call_of).last().or(last);
        broker.recycle(door, transmit);
    }
    last
}

/// The allocations of one call, once the structures that calls share have their size.
fn allocations_of_each(call: &mut impl FnMut()) -> u64 {
    const CALLS: u64 = 10_000;
    (0..CALLS).for_each(|_| call());
    let counted = measure(|| (0..CALLS).for_each(|_| call()));
    // A table may still move now and then.
    (counted.count_total + CALLS / 2) / CALLS
}

fn reply(call: CallId) -> Message {
    Message::Final(FinalReply { call, partials: 0, payload: Payload::default() })
}

fn ready(role: Role) -> Ready {
    let method = MethodOffer { name: "ping".into(), idempotent: true, fingerprint: 7 };
    Ready {
        role,
        incarnation: Uuid::from_u64_pair(1, role as u64),
        capabilities: Capabilities::BATCH,
        interval: Duration::from_secs(60),
        payload_bytes_max: 1 << 20,
        credits: 64,
        window_bytes: 0,
        codecs: Codec::ALL.to_vec(),
        services: vec![ServiceOffer { name: "Demo".into(), version: 1, methods: vec![method] }],
    }
}

const WORKER: Peer = Peer(1);
