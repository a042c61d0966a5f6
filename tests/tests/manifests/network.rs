//! The network policies allow what the programs dial, and nothing else.

use serde_json::Value;

use crate::{
    commands::Program,
    set::{Set, Workload, has},
};

#[test]
fn pods_reach_the_ports_that_they_dial_and_no_others() {
    let set = Set::read();
    let Program::Broker { frontend, backend } = set.workload("xero-broker").program() else { panic!("no broker") };
    for from in set.workloads() {
        for to in set.workloads() {
            for port in [frontend, backend, 80] {
                let dials = [("xero-client", frontend), ("xero-worker", backend)].contains(&(from.name(), port));
                let expected = dials && to.name() == "xero-broker";
                let reaches = set.allows("Egress", &from, Peer::Pod(&to), port)
                    && set.allows("Ingress", &to, Peer::Pod(&from), port);
                assert_eq!(reaches, expected, "{} to port {port} of {}", from.name(), to.name());
            }
        }
    }
}

#[test]
fn pods_that_dial_a_name_reach_dns_wherever_it_runs() {
    let set = Set::read();
    for workload in set.workloads() {
        let dials = matches!(workload.program(), Program::Worker { .. } | Program::Client { .. });
        for dns in [Peer::Stranger, Peer::Machine] {
            assert_eq!(set.allows("Egress", &workload, dns, 53), dials, "{dns:?} from {}", workload.name());
        }
    }
}

#[test]
fn strangers_reach_no_pod() {
    let set = Set::read();
    for workload in set.workloads() {
        for port in [5560, 5561, 80] {
            for peer in [Peer::Stranger, Peer::Machine] {
                assert!(!set.allows("Ingress", &workload, peer, port), "{peer:?}: port {port} of {}", workload.name());
            }
        }
    }
}

/// The other end.
#[derive(Clone, Copy, Debug)]
enum Peer<'a> {
    /// A pod of the set.
    Pod(&'a Workload<'a>),
    /// A pod of another namespace.
    Stranger,
    /// A process outside of pods, or in a pod on its machine's network: no selector finds it.
    Machine,
}

impl Set {
    /// Whether the policies allow this traffic of a pod with a peer.
    fn allows(&self, direction: &str, pod: &Workload<'_>, peer: Peer<'_>, port: u16) -> bool {
        let (rules, peers) = if direction == "Ingress" { ("ingress", "from") } else { ("egress", "to") };
        let is_in = |list: &Value| list.as_array().is_some_and(|list| list.iter().any(|one| one == direction));
        let policies = self.of_kind("NetworkPolicy").map(|policy| &policy["spec"]);
        let mut policies = policies
            .filter(|policy| is_in(&policy["policyTypes"]) && has(pod.labels, &policy["podSelector"]["matchLabels"]))
            .peekable();
        let is_restricted = policies.peek().is_some();
        let mut rules = policies.flat_map(|policy| policy[rules].as_array().into_iter().flatten());
        !is_restricted || rules.any(|rule| is_peer(&rule[peers], peer) && is_port(&rule["ports"], port))
    }
}

/// Without a list, every peer is allowed.
fn is_peer(list: &Value, peer: Peer<'_>) -> bool {
    let Some(list) = list.as_array() else { return true };
    list.iter().any(|one| match (one.get("namespaceSelector"), peer) {
        (Some(_), Peer::Pod(_) | Peer::Stranger) => one["podSelector"].is_null(),
        (None, Peer::Pod(peer)) => has(peer.labels, &one["podSelector"]["matchLabels"]),
        (None, Peer::Stranger) | (_, Peer::Machine) => false,
    })
}

/// Without a list, every port is allowed.
fn is_port(list: &Value, port: u16) -> bool {
    // The cluster's DNS is asked by UDP first, everything else only by TCP.
    list.as_array()
        .is_none_or(|list| list.iter().any(|one| one["port"] == port && (port == 53 || one["protocol"] == "TCP")))
}
