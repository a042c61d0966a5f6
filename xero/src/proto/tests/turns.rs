//! Owners of waiting calls take turns; each one's calls go in their order.

use super::{
    network::Net,
    node::offer,
    pair::{D, LATENCY, W, ms},
};
use crate::proto::{
    calls::{CallFailure, CallSpec},
    message::CallId,
};

#[test]
fn flood_of_one_owner_does_not_delay_other_owners() {
    let (mut net, d, w) = busy();
    let flood: Vec<_> = (0..6).map(|_| net.call_with(d, "hold", owned_by(1))).collect();
    let [second, third] = [2, 3].map(|owner| net.call_with(d, "hold", owned_by(owner)));
    let late = net.call_with(d, "hold", owned_by(2));
    assert_eq!(order(&mut net, w, 9)[..5], [flood[0], second, third, flood[1], late]);
}

#[test]
fn full_queue_makes_room_at_the_cost_of_the_largest_owner() {
    let mut net = Net::new();
    let d = net.dispatcher_with(|config| config.waiting_max = 4);
    let flood: Vec<_> = (0..5).map(|_| net.call_with(d, "hold", owned_by(1))).collect();
    assert!(is_overloaded(&net, flood[4]), "an owner that fills the queue alone gets the error");
    let others = [2, 3].map(|owner| net.call_with(d, "safe", owned_by(owner)));
    assert!(is_overloaded(&net, flood[3]) && is_overloaded(&net, flood[2]), "the youngest make room");
    let equal = net.call_with(d, "hold", owned_by(2));
    assert!(is_overloaded(&net, equal), "no owner has more than this one would have");
    let open = [flood[0], flood[1], others[0], others[1]];
    assert!(open.into_iter().all(|call| !net.has_ended(call)), "{open:?}");
    net.cancel(flood[0]);
    open[1..].iter().for_each(|call| net.cancel(*call));
}

#[test]
fn owner_with_one_waiting_call_leaves_turns_to_the_others() {
    let (mut net, d, w) = busy();
    let flood: Vec<_> = (0..20).map(|_| net.call_with(d, "hold", owned_by(1))).collect();
    // It always has exactly one waiting call: as soon as one is served, the next one comes.
    let mut next = net.call_with(d, "hold", owned_by(2));
    let mut served = [0, 0];
    for _ in 0..20 {
        let call = serve_one(&mut net, w);
        served[usize::from(call == next)] += 1;
        assert!(call == next || flood.contains(&call));
        if call == next {
            next = net.call_with(d, "hold", owned_by(2));
        }
    }
    assert_eq!(served, [10, 10]);
}

#[test]
fn owner_waiting_for_many_methods_gets_no_extra_turns() {
    let methods = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "hold"];
    let (mut net, d, w) = busy_with(&methods);
    let many = methods[..10].iter().map(|method| net.call_with(d, method, owned_by(1))).collect::<Vec<_>>();
    let few: Vec<_> = (0..10).map(|_| net.call_with(d, "hold", owned_by(2))).collect();
    let order = order(&mut net, w, 20);
    for (turn, pair) in order.chunks(2).enumerate() {
        assert_eq!(pair.iter().filter(|call| many.contains(call)).count(), 1, "turn {turn}: {order:?}");
    }
    assert_eq!(order.iter().filter(|call| few.contains(call)).count(), 10);
}

#[test]
fn new_worker_with_many_credits_is_shared_by_the_owners() {
    let mut net = Net::new();
    let d = net.dispatcher();
    for method in ["hold", "stubborn", "safe"] {
        for _ in 0..10 {
            net.call_with(d, method, owned_by(1));
        }
    }
    let others: Vec<_> = (0..10).map(|_| net.call_with(d, "hold", owned_by(2))).collect();
    let w = net.worker_with(&[d], |config| config.credits = 8);
    net.connect();
    assert_eq!(net.w(w).runs.iter().filter(|call| others.contains(call)).count(), 4, "{:?}", net.w(w).runs);
}

#[test]
fn owners_calls_of_one_method_go_in_their_order() {
    let (mut net, d, w) = busy();
    let calls: Vec<_> = (0..9).map(|call| net.call_with(d, "hold", owned_by(call % 3))).collect();
    let order = order(&mut net, w, 9);
    for owner in 0..3 {
        let of_owner = |call: &&CallId| calls.iter().position(|other| other == *call).map(|at| at % 3) == Some(owner);
        assert!(order.iter().filter(of_owner).is_sorted(), "{order:?}");
    }
}

#[test]
fn cancelled_and_expired_calls_take_no_turn() {
    let (mut net, d, w) = busy();
    let calls: Vec<_> = (0..4).map(|_| net.call_with(d, "hold", owned_by(1))).collect();
    let others = [(); 2].map(|()| net.call_with(d, "hold", owned_by(2)));
    net.call_with(d, "hold", |spec| {
        owned_by(3)(spec);
        spec.deadline -= ms(4_990);
    });
    net.cancel(calls[0]);
    net.cancel(others[0]);
    net.run(ms(20));
    assert_eq!(order(&mut net, w, 4), [calls[1], others[1], calls[2], calls[3]]);
}

fn owned_by(owner: u64) -> impl Fn(&mut CallSpec) {
    move |spec| spec.owner = owner
}

/// A dispatcher whose only worker runs one request at a time, and is busy.
fn busy() -> (Net, D, W) {
    busy_with(&["hold"])
}

fn busy_with(methods: &[&str]) -> (Net, D, W) {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker_with(&[d], |config| (config.credits, config.services) = (1, vec![offer("Demo", methods)]));
    net.connect();
    net.call(d, "hold");
    net.run(ms(5));
    (net, d, w)
}

/// Ends the running request, and returns the next one.
fn serve_one(net: &mut Net, w: W) -> CallId {
    let running = *net.w(w).runs.last().expect("one runs");
    net.reply(w, running, "done");
    net.run(3 * LATENCY);
    let next = *net.w(w).runs.last().expect("one runs");
    assert_ne!(next, running, "nobody is served");
    next
}

fn order(net: &mut Net, w: W, calls: usize) -> Vec<CallId> {
    (0..calls).map(|_| serve_one(net, w)).collect()
}

fn is_overloaded(net: &Net, call: CallId) -> bool {
    matches!(net.ending(call), Some((_, Err(CallFailure::Overloaded { .. }))))
}
