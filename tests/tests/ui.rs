//! What the macros accept, and what they say to what they do not.

/// In one test, so that the dependencies are built once. After a change, run it with `TRYBUILD=overwrite` and read every
/// `.stderr` that differs: one error a mistake, on the guilty token, saying what to write instead.
#[test]
fn forms_are_accepted_and_each_mistake_is_reported_once() {
    let cases = trybuild::TestCases::new();
    cases.pass("ui/pass/*.rs");
    cases.compile_fail("ui/fail/*.rs");
}
