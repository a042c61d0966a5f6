//! Compiles the core with room for faults.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=xero_planted_faults");
}
