//! Properties of the Kubernetes manifests that no schema checks: names, ports, selectors and command lines fit each
//! other and the programs. `deploy/check` checks them against the schemas.

mod commands;
mod network;
mod page;
mod set;

use std::{collections::BTreeSet, fs, time::Duration};

use commands::{Asked, Program};
use serde_json::Value;
use set::{Set, Workload, folder, texts};
use xero::proto::worker::DRAIN_TIMEOUT;

#[test]
fn every_manifest_is_in_the_set() {
    let files = fs::read_dir(folder()).expect("the folder is there").map(|entry| entry.expect("a file").file_name());
    let mut files: BTreeSet<_> = files.map(|name| name.into_string().expect("a name")).collect();
    assert!(files.remove("kustomization.yaml"));
    let listed: BTreeSet<_> = texts(&Set::read().kustomization["resources"]).map(str::to_owned).collect();
    assert_eq!(files, listed);
}

#[test]
fn broker_workers_and_client_exist_and_the_long_running_ones_have_a_budget() {
    let set = Set::read();
    let names: Vec<_> = set.workloads().iter().map(|workload| workload.shown()).collect();
    assert_eq!(names, ["StatefulSet/xero-broker", "Deployment/xero-worker", "Job/xero-client"]);
    for name in ["xero-broker", "xero-worker"] {
        let budget = set.named("PodDisruptionBudget", name);
        assert_eq!(budget["spec"]["maxUnavailable"], 1, "{name}");
        assert_eq!(set.selected(&budget["spec"]["selector"]["matchLabels"]), [name]);
    }
}

#[test]
fn selectors_select_their_own_pods() {
    let set = Set::read();
    for workload in set.workloads() {
        let spec = &workload.resource["spec"];
        let own = [workload.name()];
        if workload.kind() != "Job" {
            assert_eq!(set.selected(&spec["selector"]["matchLabels"]), own);
        }
        for spread in workload.pod["topologySpreadConstraints"].as_array().into_iter().flatten() {
            assert_eq!(set.selected(&spread["labelSelector"]["matchLabels"]), own, "{spread}");
        }
    }
    for service in set.of_kind("Service") {
        assert_eq!(set.selected(&service["spec"]["selector"]), ["xero-broker"], "{service}");
    }
}

#[test]
fn names_of_brokers_come_from_a_headless_service_that_exists() {
    let set = Set::read();
    let brokers = set.named("StatefulSet", "xero-broker");
    let service = set.named("Service", brokers["spec"]["serviceName"].as_str().expect("a service"));
    assert_eq!(service["spec"]["clusterIP"], "None");
    assert_eq!(service["spec"]["publishNotReadyAddresses"], true);
}

#[test]
fn ports_are_the_same_in_the_service_in_the_container_and_on_its_command_line() {
    let set = Set::read();
    let Program::Broker { frontend, backend } = set.workload("xero-broker").program() else { panic!("no broker") };
    let ports = |list: &Value, key: &str| -> Vec<_> {
        let ports = list.as_array().expect("a list").iter();
        ports.map(|port| (port["name"].as_str().expect("a name").to_owned(), port[key].as_u64())).collect()
    };
    let expected = [("tcp-clients", frontend), ("tcp-workers", backend)];
    let expected = expected.map(|(name, port)| (name.to_owned(), Some(u64::from(port))));
    assert_eq!(ports(&set.named("Service", "xero-broker")["spec"]["ports"], "port"), expected);
    assert_eq!(ports(&set.workload("xero-broker").container()["ports"], "containerPort"), expected);
}

#[test]
fn workers_and_clients_dial_every_broker_where_it_listens_for_them() {
    let set = Set::read();
    let Program::Broker { frontend, backend } = set.workload("xero-broker").program() else { panic!("no broker") };
    let brokers = set.named("StatefulSet", "xero-broker");
    let service = brokers["spec"]["serviceName"].as_str().expect("a service");
    let replicas = brokers["spec"]["replicas"].as_u64().expect("a number");
    for (name, port) in [("xero-worker", backend), ("xero-client", frontend)] {
        let (Program::Worker { endpoints } | Program::Client { endpoints }) = set.workload(name).program() else {
            panic!("{name} dials nobody")
        };
        let expected: Vec<_> = (0..replicas).map(|n| format!("tcp://xero-broker-{n}.{service}:{port}")).collect();
        assert_eq!(endpoints, expected, "{name}");
    }
}

#[test]
fn probes_ask_what_the_program_does() {
    let set = Set::read();
    let Program::Broker { frontend, backend } = set.workload("xero-broker").program() else { panic!("no broker") };
    let (broker, worker) = (set.workload("xero-broker"), set.workload("xero-worker"));
    assert_eq!(broker.asks("readinessProbe"), Asked::Listening(vec![frontend, backend]));
    assert_eq!(worker.asks("readinessProbe"), Asked::Connected(backend));
    // It would not notice a hanging broker, and would restart every worker that has lost its brokers.
    for workload in [broker, worker] {
        assert_eq!(workload.container()["livenessProbe"], Value::Null, "{}", workload.name());
    }
}

#[test]
fn drain_fits_into_the_hook_and_the_hook_into_the_grace_period() {
    let set = Set::read();
    for name in ["xero-broker", "xero-worker"] {
        let workload = set.workload(name);
        let Asked::Drain { pid: 1, timeout } = workload.asks("preStop") else { panic!("{name} does not drain") };
        let grace = workload.pod["terminationGracePeriodSeconds"].as_u64().expect("seconds");
        assert!(timeout >= DRAIN_TIMEOUT + GOODBYE, "{name}: {timeout:?}");
        assert!(Duration::from_secs(grace) >= timeout + GOODBYE, "{name}: {grace} s");
    }
}

#[test]
fn hook_has_enough_time_for_a_drain_by_default() {
    let Asked::Drain { timeout, .. } = commands::asked(&["/usr/local/bin/demo-lifecycle", "drain"]) else {
        panic!("it does not drain")
    };
    assert!(timeout >= DRAIN_TIMEOUT + GOODBYE, "{timeout:?}");
}

#[test]
fn roll_out_removes_no_worker_before_another_is_ready() {
    let set = Set::read();
    let worker = set.named("Deployment", "xero-worker");
    assert_eq!(worker["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    for (kind, name) in [("Deployment", "xero-worker"), ("StatefulSet", "xero-broker")] {
        // The longest pause between two attempts to connect, and a connection.
        assert!(set.named(kind, name)["spec"]["minReadySeconds"].as_u64() > Some(2), "{name}");
    }
}

#[test]
fn containers_have_no_rights_and_bounded_memory() {
    let set = Set::read();
    for workload in set.workloads() {
        let (pod, container, name) = (workload.pod, workload.container(), workload.name());
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(pod["securityContext"]["runAsUser"], 10_001, "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        let rights = &container["securityContext"];
        assert_eq!(rights["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(rights["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(texts(&rights["capabilities"]["drop"]).collect::<Vec<_>>(), ["ALL"], "{name}");
        for amount in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
            assert!(container["resources"].pointer(amount).is_some_and(Value::is_string), "{name}: {amount}");
        }
    }
}

#[test]
fn every_container_runs_the_image_that_the_set_replaces() {
    let set = Set::read();
    let name = set.kustomization["images"][0]["name"].as_str().expect("a name");
    for workload in set.workloads() {
        let image = workload.container()["image"].as_str().expect("an image");
        assert_eq!(image.rsplit_once(':').map(|(image, _)| image), Some(name));
        assert_eq!(workload.container()["imagePullPolicy"], "IfNotPresent");
    }
}

/// Time for the goodbye after a drain, and for the SIGTERM after a hook that timed out.
const GOODBYE: Duration = Duration::from_secs(5);

impl Workload<'_> {
    fn program(&self) -> Program {
        commands::program(&texts(&self.container()["command"]).collect::<Vec<_>>())
    }

    /// The question of a probe, or of the hook before a stop.
    fn asks(&self, what: &str) -> Asked {
        let container = self.container();
        let handler = if what == "preStop" { &container["lifecycle"][what] } else { &container[what] };
        commands::asked(&texts(&handler["exec"]["command"]).collect::<Vec<_>>())
    }
}
