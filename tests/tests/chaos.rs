//! Processes killed, frozen, drained and started again under load: the short form of the program `chaos`.

use std::time::Duration;

use xero_tests::{
    chaos::{self, Settings},
    load::crew::Topology,
    scene::run_alone,
};

/// Long enough for every kind of fault to happen several times.
const TIME: Duration = Duration::from_secs(10);

#[test]
fn calls_end_as_promised_while_workers_are_killed_frozen_drained_and_restarted() {
    run_alone(ends_soundly(Topology::Direct));
}

#[test]
fn calls_end_as_promised_while_workers_and_brokers_are_killed_frozen_drained_and_restarted() {
    run_alone(ends_soundly(Topology::Brokered));
}

async fn ends_soundly(topology: Topology) {
    let report = chaos::run(Settings::new(env!("CARGO_BIN_EXE_chaos"), topology, TIME)).await;
    println!("{report:#}");
    report.assert_sound();
}
