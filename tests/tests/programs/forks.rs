//! A process that forks: in the child every handle returns an error at once, and the parent continues undisturbed.

use xero_tests::{process::Process, scene::run};

#[test]
fn handles_of_the_parent_fail_at_once_in_a_forked_child() {
    run(async {
        let directory = Directory::new();
        let mut process = Process::start(env!("CARGO_BIN_EXE_forker"), &[&directory.0]);
        process.says("child exit").await;
        for what in ["held", "call", "brokered call", "wait_for_worker", "wait_for_service", "serving"] {
            let said = process.last_line(&format!("{what}: ")).unwrap_or_default();
            assert!(said.contains("forked"), "{what}: {said}");
        }
        for line in [
            "partial: true",
            "client: (false, 0)",
            "worker: (false, false)",
            "broker: (0, 0)",
            "context: (true, ())",
            "partial reply: false",
            "own: \"pong\"",
        ] {
            process.says(line).await;
        }
        assert_eq!(process.count("own: \"pong\""), 2);
        assert_eq!(process.last_line("child exit: ").as_deref(), Some("Some(0)"));

        process.says("parent: \"well\"").await;
        assert_eq!(process.count("parent call: \"pong\""), 2);
        process.says("parent held: 1").await;
        process.says("parent context: (false, true)").await;
        process.says("parent connected: (true, true, 1)").await;
        assert!(process.ended().await.success());
    });
}

#[test]
fn handles_of_the_parent_fail_at_once_in_a_child_forked_within_a_runtime() {
    run(async {
        let directory = Directory::new();
        let mut process = Process::start(env!("CARGO_BIN_EXE_forker"), &[&directory.0, "inside"]);
        process.says("parent: \"well\"").await;
        for what in ["held", "call", "wait_for_worker"] {
            let said = process.last_line(&format!("{what}: ")).unwrap_or_default();
            assert!(said.contains("forked"), "{what}: {said}");
        }
        assert_eq!(process.last_line("child exit: ").as_deref(), Some("Some(0)"));
        process.says("parent call: \"pong\"").await;
        assert!(process.ended().await.success());
    });
}

#[test]
fn handles_of_the_parent_fail_at_once_in_a_child_that_drives_the_runtime_with_the_sockets() {
    run(async {
        let directory = Directory::new();
        let mut process = Process::start(env!("CARGO_BIN_EXE_forker"), &[&directory.0, "reactor"]);
        process.says("child exit").await;
        for what in ["held", "call", "wait_for_worker"] {
            let said = process.last_line(&format!("{what}: ")).unwrap_or_default();
            assert!(said.contains("forked"), "{what}: {said}");
        }
        assert_eq!(process.count("call: "), 100);
        assert_eq!(process.last_line("child exit: ").as_deref(), Some("Some(0)"));
        assert!(process.ended().await.success());
    });
}

/// A directory for socket files, removed when dropped.
struct Directory(String);

impl Directory {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("xero-forks-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path.to_string_lossy().into_owned())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
