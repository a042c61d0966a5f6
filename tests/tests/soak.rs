//! Many calls of mixed sizes: the short form of the program `soak`.

use xero_tests::{
    load::crew::Topology,
    scene::run_alone,
    soak::{self, Settings},
};

#[test]
fn twenty_thousand_calls_of_mixed_sizes_all_succeed_and_no_process_grows() {
    run_alone(ends_soundly(Topology::Direct));
}

#[test]
fn twenty_thousand_calls_of_mixed_sizes_through_brokers_all_succeed_and_no_process_grows() {
    run_alone(ends_soundly(Topology::Brokered));
}

async fn ends_soundly(topology: Topology) {
    let report = soak::run(Settings::new(env!("CARGO_BIN_EXE_soak"), topology, 20_000)).await;
    println!("{report}");
    report.assert_sound();
}
