//! Statements of the documents about the project's files are true.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn readme_names_the_minimum_rust_version_of_the_manifest() {
    let version = rust_version();
    assert!(read("README.md").contains(&format!("Rust {version} or newer")), "README does not name Rust {version}");
}

#[test]
fn no_dependency_needs_a_newer_rust_than_the_manifest_says() {
    let ours = numbers(&rust_version());
    for package in packages() {
        let Some(theirs) = package["rust_version"].as_str() else { continue };
        assert!(numbers(theirs) <= ours, "{} needs Rust {theirs}", package["name"]);
    }
}

#[test]
fn nothing_is_compiled_from_c() {
    let tree = cargo(&["tree", "--locked", "--workspace", "-e", "normal,build,dev", "--prefix", "none", "-f", "{p}"]);
    let names: BTreeSet<_> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains("tokio"), "this is not the tree of xero: {tree}");
    for compiler in ["cc", "cmake", "bindgen", "pkg-config", "vcpkg"] {
        assert!(!names.contains(compiler), "building xero needs {compiler}");
    }
    assert!(!names.iter().any(|name| name.ends_with("-sys") && *name != "linux-raw-sys"), "a C library: {names:?}");
}

#[test]
fn no_fault_can_be_planted_in_published_or_measured_builds() {
    let tree = |package| cargo(&["tree", "--locked", "-p", package, "--all-features", "-e", "all", "--prefix", "none"]);
    assert!(tree("xero-simulator").contains("planted"), "the simulator has no core to plant faults in");
    for package in ["xero", "xero-demo", "xero-tests"] {
        let tree = tree(package);
        assert!(tree.contains("tokio") && !tree.contains("planted"), "faults can be planted in {package}: {tree}");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for document in ["README.md", "ARCHITECTURE.md", "PROTOCOL.md", "CHANGELOG.md", "deploy/README.md"] {
        let document = Path::new(document);
        let folder = root().join(document.parent().unwrap_or(document));
        for target in read(&document.to_string_lossy()).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if !target.contains("://") && !target.starts_with('#') {
                let file = target.split('#').next().unwrap_or(target);
                assert!(folder.join(file).exists(), "{} links to {target}, which is not there", document.display());
            }
        }
    }
}

#[test]
fn files_named_in_the_code_map_exist() {
    let document = read("ARCHITECTURE.md");
    let is_path = |text: &&str| ["xero/src/", "tests/"].iter().any(|folder| text.starts_with(folder));
    let paths = document.split('`').skip(1).step_by(2).filter(is_path);
    for path in paths.filter(|path| !path.contains('*')) {
        assert!(root().join(path).exists(), "ARCHITECTURE.md names {path}, which is not there");
    }
}

fn rust_version() -> String {
    let manifest = read("Cargo.toml");
    let line = manifest.lines().find(|line| line.starts_with("rust-version"));
    line.and_then(|line| line.split('"').nth(1)).expect("the manifest has a rust-version").to_owned()
}

fn packages() -> Vec<serde_json::Value> {
    let metadata = cargo(&["metadata", "--locked", "--format-version", "1"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).expect("cargo writes JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().expect("a number")).collect()
}

fn read(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
