//! Compiles the core with faults to plant.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=xero_planted_faults");
}
