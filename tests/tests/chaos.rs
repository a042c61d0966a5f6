//! Processes killed, frozen, told to leave and started again under load: the short form of the program `chaos`.

use std::time::Duration;

use xero_tests::{
    chaos::{self, Settings},
    scene::run,
};

/// Long enough for every kind of fault to happen several times.
const TIME: Duration = Duration::from_secs(10);

#[test]
fn calls_end_as_they_must_while_workers_are_killed_frozen_told_to_leave_and_started_again() {
    run(async {
        let report = chaos::run(Settings::new(env!("CARGO_BIN_EXE_chaos"), TIME)).await;
        println!("{report:#}");
        report.assert_sound();
    });
}
