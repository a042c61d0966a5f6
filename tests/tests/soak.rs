//! Many calls of mixed sizes: the short form of the program `soak`.

use xero_tests::{
    scene::run,
    soak::{self, Settings},
};

#[test]
fn twenty_thousand_calls_of_mixed_sizes_all_succeed_and_no_process_grows() {
    run(async {
        let report = soak::run(Settings::new(env!("CARGO_BIN_EXE_soak"), 20_000)).await;
        println!("{report}");
        report.assert_sound();
    });
}
