//! The defects of the predecessor, which this system must not have: one test for each of the 22.

mod calls;
mod connections;
mod input;
