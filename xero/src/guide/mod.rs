//! Pages on how to use Xero. Their code is compiled and run with the tests.
//!
//! - [Choosing a codec](codecs): what each codec carries, what it costs, and how to test your types.
//! - [Changing a service](changing_a_service): what happens while one side is older than the other.

#[doc = include_str!("codecs.md")]
pub mod codecs {}

#[doc = include_str!("changing_a_service.md")]
pub mod changing_a_service {}
