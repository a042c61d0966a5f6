//! What the macros accept, and what they say to what they do not.

#[test]
fn accepted_forms_compile() {
    trybuild::TestCases::new().pass("ui/pass/*.rs");
}

#[test]
fn mistakes_are_reported_once_and_where_they_are() {
    trybuild::TestCases::new().compile_fail("ui/fail/*.rs");
}
