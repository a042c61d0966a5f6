//! A mistake costs one call: it is a typed error within one round trip, and the worker continues.

use std::{error::Error, time::Duration};

use xero::{
    BindError, CallError, Client, Codec, ConnectError, Context, Never, RpcError, StartError, Worker,
    proto::message::{ErrorCode, Message, Request},
};
use xero_tests::{
    process::UNNOTICED,
    raw::{self, Dispatcher},
    scene::{client, probe, prober, run, timed, worker},
    service::{Mistake, ProbeClient, Unencodable, elsewhere::ElsewhereClient},
};

/// A timeout that no test reaches: an error that comes long before has another cause.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The error of a call, which must come at once.
async fn error_of<T: std::fmt::Debug, E: std::fmt::Debug>(call: xero::Call<T, E>) -> CallError<E> {
    let (outcome, time) = timed(call.timeout(TIMEOUT)).await;
    assert!(time < UNNOTICED, "reported after {time:?}");
    outcome.expect_err("an error")
}

#[test]
fn panic_costs_one_call_whose_error_has_its_text() {
    run(async {
        let client = client().await;
        let worker = worker(&client).await;
        let probe = probe(&client);
        let slow = probe.work("beside it", 200).timeout(TIMEOUT).start();
        for round in 0..10 {
            let error = error_of(probe.panic(&format!("round {round}"))).await;
            let CallError::Rpc(RpcError::Panicked { message, .. }) = &error else { panic!("{error}") };
            assert_eq!(*message, format!("round {round}"));
            assert!(error.maybe_executed() && !error.is_retryable());
        }
        assert_eq!(slow.await.unwrap().worker, worker.id());
        assert_eq!(worker.counters().await.redials, 0);
    });
}

#[test]
fn unknown_method_lists_the_known_ones() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        let error = error_of(ElsewhereClient::new(&client).subtract(2, 1)).await;
        assert!(matches!(&error, CallError::Rpc(RpcError::UnknownMethod { .. })), "{error}");
        assert!(error.to_string().contains("`subtract`") && error.to_string().contains("`add`"), "{error}");
        assert!(!error.maybe_executed());
        let error = error_of(client.call("Probe.invalid_request")).await;
        assert!(matches!(&error, CallError::Rpc(RpcError::UnknownMethod { .. })), "{error}");
        assert_eq!(probe(&client).ping().await.unwrap(), "pong");
    });
}

#[test]
fn unknown_service_lists_the_known_ones_and_a_malformed_name_shows_the_form() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        for method in ["Nope.ping", "Probe.Probe.ping"] {
            let error = error_of(client.call(method).fail_fast()).await;
            assert!(
                matches!(&error, CallError::Rpc(RpcError::NoWorker { offered, .. }) if *offered == ["Probe"]),
                "{error}"
            );
            assert!(error.is_retryable());
        }
        for method in ["ping", "", ".", "Probe.", ".ping"] {
            let error = error_of(client.call(method)).await;
            assert!(matches!(&error, CallError::Rpc(RpcError::UnknownMethod { .. })), "{error}");
            assert!(error.to_string().contains("`Service.method`"), "{error}");
        }
        // Without `fail_fast` the call waits for a worker, but no longer than its timeout.
        let error = client.call("Nope.ping").timeout(Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(&error, CallError::Rpc(RpcError::NoWorker { .. })), "{error}");
    });
}

#[test]
fn worker_reports_unknown_services_and_methods() {
    run(async {
        let dispatcher = Dispatcher::bind().await;
        let _worker = Worker::connect(&dispatcher.endpoint).serve(prober()).start().unwrap();
        let mut link = dispatcher.register().await;
        let ping = || raw::request(1, "ping", "[]");
        let no_service = Request { service: "Nope".into(), ..ping() };
        let no_method = Request { method: "pong".into(), ..ping() };
        let unlike = Request { fingerprint: 1, payload: raw::text(""), ..ping() };
        for (request, code, hint) in [
            (no_service, ErrorCode::UnknownService, "`Probe`"),
            (no_method, ErrorCode::UnknownMethod, "`ping`"),
            (unlike, ErrorCode::SignatureMismatch, "ping() -> String"),
        ] {
            link.send(&Message::Request(request)).await;
            let error = link.receive_error().await;
            assert_eq!((error.code, error.maybe_executed), (code, false));
            assert!(error.detail.contains(hint), "{}", error.detail);
        }
        link.send(&Message::Request(ping())).await;
        assert!(matches!(link.receive_news().await, Some(Message::Final(_))));
    });
}

#[test]
fn signature_mismatch_names_both_signatures() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        let error = error_of(ElsewhereClient::new(&client).add("1".to_owned(), "2".to_owned())).await;
        let CallError::Rpc(RpcError::SignatureMismatch { method, caller, worker, .. }) = &error else {
            panic!("{error}")
        };
        assert_eq!(method, "Probe.add");
        assert_eq!(caller, "add(left: String, right: String) -> String");
        assert_eq!(worker, "add(left: i64, right: i64) -> i64");
        assert!(!error.maybe_executed() && !error.is_retryable());
        let text = error.to_string();
        assert!(text.contains(caller.as_str()) && text.contains(worker.as_str()), "{text}");
        assert!(text.contains("build both from the same trait"), "{text}");
    });
}

#[test]
fn self_describing_codecs_name_the_value_that_does_not_fit() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        for codec in [Codec::MessagePack, Codec::Json] {
            let elsewhere = ElsewhereClient::new(&client).with_codec(codec);
            let error = error_of(elsewhere.add("1".to_owned(), "2".to_owned())).await;
            assert!(matches!(&error, CallError::Rpc(RpcError::InvalidArguments { .. })), "{codec}: {error}");
            assert!(!error.maybe_executed());
            let error = error_of(elsewhere.echo("a text".to_owned())).await;
            assert!(matches!(&error, CallError::Rpc(RpcError::InvalidReply { .. })), "{codec}: {error}");
            assert!(error.maybe_executed());
        }
    });
}

#[test]
fn arguments_that_do_not_decode_are_refused_in_every_codec() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        for codec in Codec::ALL {
            let call = || client.call("Probe.add").codec(codec);
            let errors = [
                error_of(call().arguments("text")).await,
                error_of(call().arguments(&[1_u8; 30])).await,
                error_of(call()).await,
            ];
            for error in errors {
                assert!(matches!(&error, CallError::Rpc(RpcError::InvalidArguments { .. })), "{codec}: {error}");
                assert!(!error.maybe_executed());
            }
        }
        let misspelt = serde_json::json!({"left": 1, "rihgt": 2});
        let error = error_of(client.call("Probe.add").arguments(&misspelt)).await;
        assert!(error.to_string().contains("rihgt"), "{error}");
        assert_eq!(probe(&client).add(1, 2).await.unwrap(), 3);
    });
}

#[test]
fn values_that_do_not_encode_cost_one_call() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        for codec in Codec::ALL {
            let error = error_of(client.call("Probe.echo").codec(codec).arguments(&(Unencodable,))).await;
            assert!(
                matches!(&error, CallError::Rpc(RpcError::InvalidArguments { reason, .. }) if reason.contains("made so")),
                "{error}"
            );
            assert!(!error.maybe_executed());
            let error = error_of(probe(&client).with_codec(codec).unencodable()).await;
            assert!(
                matches!(&error, CallError::Rpc(RpcError::InvalidReply { reason, .. }) if reason.contains("made so")),
                "{error}"
            );
            assert_eq!(probe(&client).with_codec(codec).ping().await.unwrap(), "pong");
        }
    });
}

#[xero::service]
trait Notes {
    /// The error of a partial reply that cannot be written.
    async fn refusal(&self, cx: &Context) -> String;
}

struct Notebook;

#[xero::worker]
impl Notes for Notebook {
    async fn refusal(&self, cx: &Context) -> String {
        cx.partial(&Unencodable).await.expect_err("no value").to_string()
    }
}

#[test]
fn errors_about_values_name_the_method_in_every_codec() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        let _notebook = Worker::connect(client.endpoint()).serve(Notebook).start().unwrap();
        for codec in Codec::ALL {
            let probe = probe(&client).with_codec(codec);
            let mut progress = client.call("Probe.progress").codec(codec).arguments(&(1_u32,)).start();
            let partial = progress.partial().await.unwrap();
            let ping = client.call("Probe.ping").codec(codec).await.unwrap();
            for (method, error) in [
                (
                    "Probe.echo",
                    error_of(client.call("Probe.echo").codec(codec).arguments(&(Unencodable,))).await.to_string(),
                ),
                ("Probe.add", error_of(client.call("Probe.add").codec(codec).arguments(&(1,))).await.to_string()),
                ("Probe.unencodable", error_of(probe.unencodable()).await.to_string()),
                ("Probe.progress", partial.decode::<[String; 3]>().unwrap_err().to_string()),
                ("Probe.ping", ping.decode::<[String; 3]>().unwrap_err().to_string()),
                ("Notes.refusal", NotesClient::new(&client).with_codec(codec).refusal().await.unwrap()),
            ] {
                assert!(error.contains(&format!("of `{method}`: ")), "{codec}: {error}");
            }
        }
    });
}

#[test]
fn own_errors_are_typed_and_not_retried() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        let error = error_of(probe(&client).fail(Mistake::Plain, true)).await;
        assert_eq!(error.application(), Some(&Mistake::Plain));
        assert!(error.maybe_executed() && !error.is_retryable() && !error.is_transient());
        // A caller without the types gets it as a value.
        let error = error_of(client.call("Probe.fail").arguments(&(Mistake::Plain, true))).await;
        let CallError::Application(value) = error else { panic!("{error}") };
        assert_eq!(value.decode::<Mistake>().unwrap(), Mistake::Plain);
    });
}

#[test]
fn fail_fast_call_without_a_worker_fails_at_once() {
    run(async {
        let client = client().await;
        let error = error_of(probe(&client).ping().fail_fast()).await;
        assert!(matches!(&error, CallError::Rpc(RpcError::NoWorker { offered, .. }) if offered.is_empty()), "{error}");
        assert_eq!(error.to_string(), "no worker offers the service `Probe`: no worker is connected");
        assert!(error.is_retryable());
        let error = client.wait_for_worker(Duration::ZERO).await.unwrap_err();
        assert_eq!(error.to_string(), format!("no worker: none is connected to {}", client.endpoint()));
        let error = client.wait_for_worker(Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(error.to_string(), format!("no worker: none came to {} within 1ms", client.endpoint()));
        client.close().await;
        let error = error_of(probe(&client).ping()).await;
        assert_eq!(error, RpcError::closed("Probe.ping").with_maybe_executed(false).into());
    });
}

#[test]
fn wrong_endpoints_and_settings_are_errors_before_anything_starts() {
    run(async {
        for endpoint in ["", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "http://127.0.0.1:80", "TCP://*:1"] {
            let error = Client::bind(endpoint).await.unwrap_err();
            assert!(matches!(error, BindError::Endpoint(_)), "{endpoint}: {error}");
            let error = Worker::connect(endpoint).serve(prober()).start().unwrap_err();
            assert!(matches!(error, StartError::Connect(ConnectError::Endpoint(_))), "{endpoint}: {error}");
        }
        for endpoint in ["tcp://*:5550", "tcp://127.0.0.1:0", "inproc://*"] {
            let error = Worker::connect(endpoint).serve(prober()).start().unwrap_err();
            assert!(matches!(error, StartError::Connect(ConnectError::NotDialable { .. })), "{endpoint}: {error}");
        }
        let taken = client().await;
        let error = Client::bind(taken.endpoint()).await.unwrap_err();
        assert!(matches!(error, BindError::Transport(_)), "{error}");

        let worker = || Worker::connect("tcp://127.0.0.1:1");
        assert!(matches!(worker().start().unwrap_err(), StartError::NoService));
        let twice = worker().serve(prober()).serve(prober()).start().unwrap_err();
        assert!(matches!(twice, StartError::DuplicateService(name) if name == "Probe"));
        let zero = Duration::ZERO;
        for settings in [worker().concurrency(0), worker().heartbeat_interval(zero), worker().backoff(TIMEOUT, zero)] {
            assert!(matches!(
                settings.serve(prober()).start().unwrap_err(),
                StartError::Connect(ConnectError::Config(_))
            ));
        }
        for settings in [Client::builder().liveness(1), Client::builder().timeout(zero)] {
            assert!(matches!(settings.bind("tcp://127.0.0.1:0").await.unwrap_err(), BindError::Config(_)));
        }
    });
    let outside = Worker::connect("tcp://127.0.0.1:1").serve(prober()).start().unwrap_err();
    assert!(matches!(outside, StartError::NoRuntime));
}

/// Calls of different errors in one function, whose error is any.
async fn anyhow_of(probe: &ProbeClient, mistake: Mistake) -> anyhow::Result<Mistake> {
    probe.ping().await?;
    Ok(probe.fail(mistake, true).await?)
}

async fn eyre_of(probe: &ProbeClient, mistake: Mistake) -> eyre::Result<Mistake> {
    probe.ping().await?;
    Ok(probe.fail(mistake, true).await?)
}

async fn boxed_of(client: &Client) -> Result<(), Box<dyn Error + Send + Sync>> {
    client.call("Probe.nothing").await?;
    Ok(())
}

/// What the framework says is the error; what the method says is a value.
async fn split_of(probe: &ProbeClient, mistake: Mistake) -> Result<Mistake, RpcError> {
    probe.ping().await?;
    Ok(CallError::split(probe.fail(mistake, true).await)?.expect_err("as asked"))
}

#[test]
fn errors_of_several_methods_meet_under_the_question_mark() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        let probe = probe(&client);
        let caused = || Mistake::Caused { by: Box::new(Mistake::Plain), at: "home".to_owned() };

        let error = anyhow_of(&probe, caused()).await.unwrap_err();
        assert_eq!(error.to_string(), "the method returned an error: a mistake at home");
        let chain: Vec<_> = error.chain().skip(1).map(ToString::to_string).collect();
        assert_eq!(chain, ["a mistake at home", "a plain mistake"]);
        assert_eq!(error.downcast_ref::<CallError<Mistake>>(), Some(&CallError::Application(caused())));
        let error = eyre_of(&probe, caused()).await.unwrap_err();
        assert!(error.chain().any(|cause| cause.downcast_ref::<Mistake>() == Some(&caused())), "{error:?}");

        let error = boxed_of(&client).await.unwrap_err();
        assert!(error.to_string().contains("`nothing`") && error.source().is_none(), "{error}");

        assert_eq!(split_of(&probe, caused()).await, Ok(caused()));
        client.close().await;
        let error = split_of(&probe, caused()).await.unwrap_err();
        assert!(matches!(&error, RpcError::Closed { method, .. } if method == "Probe.ping"), "{error}");
        let error = anyhow_of(&probe, caused()).await.unwrap_err();
        let rpc = error.downcast_ref::<CallError<Never>>().and_then(CallError::rpc);
        assert!(rpc.is_some_and(|error| !error.maybe_executed()), "{error}");
    });
}

#[test]
fn framework_errors_name_their_method_and_carry_values() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        let probe = probe(&client);
        let rpc = |error: CallError<Never>| RpcError::from(error);
        let unknown = rpc(error_of(ElsewhereClient::new(&client).subtract(2, 1)).await);
        let RpcError::UnknownMethod { method, offered, .. } = &unknown else { panic!("{unknown}") };
        assert_eq!(method, "Probe.subtract");
        assert!(offered.iter().any(|name| name == "add"), "{offered:?}");
        let late = rpc(probe.work("late", 60_000).timeout(Duration::from_millis(20)).await.unwrap_err());
        let RpcError::DeadlineExceeded { method, timeout, maybe_executed: true, .. } = &late else { panic!("{late}") };
        assert_eq!((&method[..], *timeout), ("Probe.work", Duration::from_millis(20)));
        let large = rpc(error_of(probe.length(&vec![0; 65 << 20])).await);
        let RpcError::TooLarge { method, exceeded: Some(exceeded), .. } = &large else { panic!("{large}") };
        assert_eq!((&method[..], exceeded.limit), ("Probe.length", 64 << 20));
        assert!(exceeded.size > 65 << 20, "{exceeded:?}");
        assert_eq!(large.method(), "Probe.length");
        for error in [unknown, late, large] {
            assert!(error.to_string().contains(error.method().rsplit('.').next().unwrap()), "{error}");
        }
    });
}

#[test]
fn made_up_errors_say_what_real_ones_say() {
    let lost = RpcError::worker_lost("Library.find");
    assert!(lost.maybe_executed() && lost.is_transient() && !lost.is_retryable());
    let lost = lost.with_maybe_executed(false);
    assert!(!lost.maybe_executed() && lost.is_retryable());
    let none = RpcError::no_worker("Library.find").with_maybe_executed(true);
    assert!(matches!(&none, RpcError::NoWorker { service, .. } if service == "Library"));
    assert!(!none.maybe_executed(), "its kind decides that");
    let none = RpcError::no_worker("studio.Forms.refuse");
    assert!(matches!(&none, RpcError::NoWorker { service, .. } if service == "studio.Forms"));
    let error: CallError<Mistake> = RpcError::overloaded("Library.find", "no room").into();
    assert!(error.is_retryable() && error.application().is_none(), "{error}");
    let own = CallError::Application(Mistake::Plain).map_application(|mistake| mistake.to_string());
    assert_eq!(own.application().map(String::as_str), Some("a plain mistake"));
    assert!(own.maybe_executed() && !own.is_retryable() && !own.is_transient());
}
