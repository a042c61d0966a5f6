//! The demo, between containers.

use xero_tests::containers::stack::Stack;

pub(crate) async fn twenty_pings_and_every_example_between_two_containers(stack: &mut Stack) {
    // The seed's script. Compose ends with the client's exit code.
    stack.compose(&["up", "--no-build", "--abort-on-container-exit", "--exit-code-from", "client"]).await;
    let [client, worker] = [stack.container("client").await, stack.container("worker").await];
    let output = client.output().await;
    assert_eq!(output.matches(r#"reply: "pong""#).count(), 20, "of 20 pings: {output}");
    assert_eq!(worker.exit_code().await, 0, "the worker was asked to leave");
    stack.up_alone("worker").await;
    for example in EXAMPLES {
        example.run(stack, "client", &["tcp://*:5550"]).await;
    }
    stack.container("worker").await.stop().await;
}

pub(crate) async fn every_method_through_two_brokers(stack: &mut Stack) {
    let services = ["broker-1", "broker-2", "worker-1", "worker-2", "worker-3"];
    stack.up(&services).await;
    for service in services {
        stack.container(service).await.is_found("healthy").await;
    }
    let endpoints = ["--connect", "tcp://broker-1:5560,tcp://broker-2:5560"];
    for example in EXAMPLES {
        example.run(stack, "client-1", &endpoints).await;
    }
    for service in services {
        stack.container(service).await.stop().await;
    }
}

/// A call of the demo's client.
struct Example {
    call: &'static [&'static str],
    code: i32,
    /// Its output contains this.
    says: &'static str,
}

impl Example {
    /// Runs it in a new container of that service.
    async fn run(&self, stack: &Stack, service: &str, endpoints: &[&str]) {
        let Self { call, code, says } = self;
        let client = [&["demo-client"], endpoints, call, &["--json", "--wait", "30"]].concat();
        let (ended, output) = stack.run(service, &client).await;
        assert_eq!(ended, *code, "{call:?}: {output}");
        assert!(output.contains(says), "{call:?}: {output}");
    }
}

/// Every method of the demo, and every example of the seed.
const EXAMPLES: &[Example] = &[
    Example { call: &["ping"], code: 0, says: r#"{"reply":"pong"}"# },
    Example { call: &["return_none"], code: 0, says: r#"{"reply":null}"# },
    Example { call: &["compare", "--args", r#""apple", "orange""#], code: 0, says: r#"{"reply":[false,2]}"# },
    Example {
        call: &["compare", "--kwargs", r#""str1":"apple", "str2":"orange""#],
        code: 0,
        says: r#"{"reply":[false,2]}"#,
    },
    Example { call: &["compare", "--args", r#""apple", "apple""#], code: 0, says: r#"{"reply":[true,1]}"# },
    Example { call: &["invalid_request"], code: 3, says: "service `Demo` has no method `invalid_request`" },
    Example { call: &["slow_succeed", "--args", "5", "--timeout", "20"], code: 0, says: r#"{"reply":true}"# },
    Example { call: &["slow_fail", "--args", "5", "--timeout", "20"], code: 1, says: r#"{"Failed":{"seconds":5.0}}"# },
    Example { call: &["echo", "--args", r#""here and back""#], code: 0, says: r#"{"reply":"here and back"}"# },
    Example { call: &["whoami"], code: 0, says: r#"{"reply":{"worker":""# },
];

/// The Compose file with a worker and a client.
pub(crate) const HERE: &str = "docker-compose.yml";
