//! Commands on the deployment page name existing things. Those that need a cluster or an engine are not run.

use std::fs;

use crate::{
    commands,
    set::{Set, folder, root},
};

#[test]
fn commands_on_the_page_name_what_there_is() {
    let (set, mut checked) = (Set::read(), 0);
    for command in page_commands() {
        let words: Vec<_> = command.split_whitespace().map(|word| word.trim_matches(['\'', '(', ')'])).collect();
        match &words[..] {
            [program, arguments @ ..] if program.starts_with("demo-") => drop(commands::matches(program, arguments)),
            ["kubectl", arguments @ ..] => set.check_kubectl(&command, arguments),
            ["deploy/check"] => assert!(root().join("deploy/check").exists()),
            // The container tests run both files.
            ["docker", "compose", "up", ..] => {}
            ["docker", "compose", "-p", _, "-f", file, "up" | "kill" | "down", ..]
            | [_, "docker", "compose", "-p", _, "-f", file, "up", ..] => {
                assert!(root().join(file).exists(), "{command}");
            }
            ["docker", "build", "--target", "demo", "-t", image, "."]
            | ["kind", "load", "docker-image", image]
            | ["docker", "tag", image, _]
            | ["cd", "deploy/kubernetes", "&&", "kustomize", "edit", "set", "image", image] => {
                assert_eq!(image.split([':', '=']).next(), Some(set.image()), "{command}");
            }
            ["docker", "push", image] => assert!(image.contains(set.image()), "{command}"),
            _ => panic!("the page has a command that no test knows: {command}"),
        }
        checked += 1;
    }
    assert!(checked >= 20, "only {checked} commands were found on the page");
}

#[test]
fn page_says_the_times_and_limits_of_the_manifests() {
    let (set, page) = (Set::read(), page());
    let broker = set.workload("xero-broker");
    let memory = broker.container()["resources"]["limits"]["memory"].as_str().expect("an amount");
    let grace = &broker.pod["terminationGracePeriodSeconds"];
    let commands::Asked::Drain { timeout, .. } = broker.asks("preStop") else { panic!("it does not drain") };
    for said in [
        format!("| the hook that asks for the drain | {} s |", timeout.as_secs()),
        format!("| the container is killed | {grace} s |"),
        format!("limit of {}", memory.replace("Mi", " MiB")),
    ] {
        assert!(page.contains(&said), "the page does not say {said:?}");
    }
}

impl Set {
    fn image(&self) -> &str {
        self.kustomization["images"][0]["name"].as_str().expect("a name")
    }

    fn check_kubectl(&self, command: &str, arguments: &[&str]) {
        let (arguments, inside) = match arguments.iter().position(|word| *word == "--") {
            Some(at) => (&arguments[..at], Some(&arguments[at + 1..])),
            None => (arguments, None),
        };
        let after = |option: &str| arguments.iter().skip_while(|word| **word != option).nth(1).copied();
        match after("-k") {
            Some(path) => assert_eq!(root().join(path), folder(), "{command}"),
            None => assert_eq!(after("-n"), Some(self.namespace()), "{command}"),
        }
        if let Some(label) = after("-l") {
            let (name, value) = label.split_once('=').expect("a label and its value");
            assert!(!self.selected(&serde_json::json!({ name: value })).is_empty(), "{command}");
        }
        for (kind, name) in arguments.iter().filter_map(|word| word.split_once('/')).filter(|(kind, _)| is_kind(kind)) {
            let found = self.workloads().iter().any(|one| one.kind().eq_ignore_ascii_case(kind) && one.name() == name);
            assert!(found, "{command}: there is no {kind}/{name}");
        }
        if let Some(inside) = inside {
            commands::asked(inside);
        }
    }
}

/// Not a path, nor a label.
fn is_kind(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase()) && text != "deploy"
}

/// The lines of the page's shell blocks, without the remarks after them.
fn page_commands() -> Vec<String> {
    let page = page();
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).map(|line| line.split(" # ").next().unwrap_or(line).to_owned()).collect()
}

fn page() -> String {
    fs::read_to_string(root().join("deploy/README.md")).expect("the page is there")
}
