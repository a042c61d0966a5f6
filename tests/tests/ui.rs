//! The forms that the macros accept, and their errors for all others.

/// One test, so that the dependencies are built once. After a change, run it with `TRYBUILD=overwrite` and read every
/// `.stderr` that differs: one error for each mistake, on the guilty token, saying what to write instead.
#[test]
fn valid_forms_are_accepted_and_each_mistake_is_reported_once() {
    let cases = trybuild::TestCases::new();
    cases.pass("ui/pass/*.rs");
    cases.compile_fail("ui/fail/*.rs");
}
