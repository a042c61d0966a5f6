//! What the system that this one re-makes gets wrong, and this one must not: one test for each of its 22 defects.

mod calls;
mod connections;
mod input;
