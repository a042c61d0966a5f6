//! Two versions of a service: the client of each calls the other's worker, in every codec.
//!
//! The guide's page "Changing a service" has a table row for each change. A row ends with its test's name, in a comment
//! that readers do not see. Each test compares the row's cells with the outcomes: a cell must name every outcome, and
//! no other. A test without a row fails, and so does a row without a test.

mod argument_types;
mod arguments;
mod errors;
mod fields;
mod methods;
mod page;
mod returns;
mod rollout;
mod service;
mod types;
mod variants;

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use xero::{CallError, Client, Codec, IntoService, RpcError, Worker};
use xero_tests::scene::{self, run};

use crate::page::Row;

/// A client and a worker in this process.
struct Pair {
    client: Client,
    _worker: Worker,
}

/// A worker of this service, and its client.
async fn serving<M>(service: impl IntoService<M>) -> Pair {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let endpoint = format!("inproc://changing-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let client = Client::bind(&endpoint).await.expect("binds");
    let worker = Worker::connect(&endpoint).serve(service).start().expect("starts");
    scene::joined(&client, &worker).await;
    Pair { client, _worker: worker }
}

/// The expected outcome of one call.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// The value arrives, shown as this.
    Works(&'static str),
    /// A different value arrives, shown as this.
    Wrong(&'static str),
    /// An error of this kind, whose text contains this.
    Fails(&'static str, &'static str),
    /// The value cannot be read, for a reason that contains this.
    Refused(&'static str),
    /// A different value or none, depending on the codec and the following bytes.
    Unsound,
}

use Expected::*;

/// The kind of an error, as the page writes it, and its text.
fn described<E: Debug>(error: &CallError<E>) -> (&'static str, String) {
    let error = match error {
        CallError::Application(error) => return ("`Application`", format!("{error:?}")),
        CallError::Rpc(error) => error,
    };
    let kind = match error {
        RpcError::SignatureMismatch { .. } => "`SignatureMismatch`",
        RpcError::InvalidArguments { .. } => "`InvalidArguments`",
        RpcError::InvalidReply { .. } => "`InvalidReply`",
        RpcError::UnknownMethod { .. } => "`UnknownMethod`",
        RpcError::NoWorker { .. } => "`NoWorker`",
        RpcError::DeadlineExceeded { .. } => "`DeadlineExceeded`",
        RpcError::Refused { .. } => "`Refused`",
        _ => "another error",
    };
    (kind, error.to_string())
}

/// Compares a call with its expectation, and returns the word for its outcome.
#[track_caller]
fn outcome<E: Debug>(about: &str, expected: Expected, result: Result<impl Debug, CallError<E>>) -> &'static str {
    let arrived = result.map(|value| format!("{value:?}").trim_matches('"').to_owned());
    match (expected, &arrived) {
        (Works(shown), Ok(value)) if value == shown => "works",
        (Wrong(shown), Ok(value)) if value == shown => "another value",
        (Unsound, Ok(_)) => "another value",
        (Fails(kind, text), Err(error)) if described(error).0 == kind && described(error).1.contains(text) => kind,
        (
            Refused(text),
            Err(CallError::Rpc(RpcError::InvalidArguments { reason, .. } | RpcError::InvalidReply { reason, .. })),
        ) if reason.contains(text) => "refused",
        (Unsound, Err(CallError::Rpc(RpcError::InvalidArguments { .. } | RpcError::InvalidReply { .. }))) => "refused",
        (_, Ok(value)) => panic!("{about}: {expected:?} was expected, and {value} has arrived"),
        (_, Err(error)) => panic!("{about}: {expected:?} was expected, and there is {:?}", described(error)),
    }
}

/// No error shows a name of generated code.
#[track_caller]
fn assert_readable<E: Debug>(error: &CallError<E>) {
    let (_, text) = described(error);
    assert!(!text.contains("__") && !text.contains('‹'), "{text}");
}

/// An old and a new version of a service, and calls of each version's client to the other's worker.
///
/// The first expectation of a call is for bincode and postcard, the second for MessagePack and JSON.
macro_rules! meet {
    (
        $row:literal,
        old { $($old:tt)* }
        new { $($new:tt)* }
        old client { $(|$old_client:ident| $old_call:expr => $old_bare:expr, $old_named:expr;)* }
        new client { $(|$new_client:ident| $new_call:expr => $new_bare:expr, $new_named:expr;)* }
    ) => {
        #[allow(dead_code)]
        mod old {
            #[allow(unused_imports)]
            use super::super::super::*;
            $($old)*
        }
        #[allow(dead_code)]
        mod new {
            #[allow(unused_imports)]
            use super::super::super::*;
            $($new)*
        }
        #[test]
        fn meets() {
            #[allow(unused_imports)]
            use super::super::{*, page::{NEW_FIRST, OLD_FIRST}};
            run(async {
                let mut row = Row::of($row);
                let (old, new) = (serving(old::Here).await, serving(new::Here).await);
                let _ = (&old, &new);
                for codec in Codec::ALL {
                    let is_named = codec.is_self_describing();
                    $({
                        let $old_client = old::ServiceClient::new(&new.client).with_codec(codec);
                        let expected = if is_named { $old_named } else { $old_bare };
                        let result = $old_call.await;
                        let _ = result.as_ref().map_err(assert_readable);
                        let about = format!("{codec}, old client: {}", stringify!($old_call));
                        row.see(OLD_FIRST, codec, outcome(&about, expected, result));
                    })*
                    $({
                        let $new_client = new::ServiceClient::new(&old.client).with_codec(codec);
                        let expected = if is_named { $new_named } else { $new_bare };
                        let result = $new_call.await;
                        let _ = result.as_ref().map_err(assert_readable);
                        let about = format!("{codec}, new client: {}", stringify!($new_call));
                        row.see(NEW_FIRST, codec, outcome(&about, expected, result));
                    })*
                }
                row.check();
            });
        }
    };
}
use meet;

/// A type `Job` before and after a change: as an argument, as a reply and as an error.
///
/// Each value is followed by the expectations for bincode and postcard, and for MessagePack and JSON.
macro_rules! reshape {
    (
        $row:literal,
        old { $($old:tt)* }
        new { $($new:tt)* }
        old to new { $($old_value:expr => $old_bare:expr, $old_named:expr;)* }
        new to old { $($new_value:expr => $new_bare:expr, $new_named:expr;)* }
    ) => {
        mod old {
            #[allow(unused_imports)]
            use super::super::super::*;
            $($old)*
            crate::holder!($($old_value),*);
        }
        mod new {
            #[allow(unused_imports)]
            use super::super::super::*;
            $($new)*
            crate::holder!($($new_value),*);
        }
        #[test]
        fn meets() {
            use super::super::{*, page::{NEW_FIRST, OLD_FIRST}};
            run(async {
                let mut row = Row::of($row);
                let (old, new) = (serving(old::Here).await, serving(new::Here).await);
                for codec in Codec::ALL {
                    let old_writer = old::HolderClient::new(&new.client).with_codec(codec);
                    let new_reader = new::HolderClient::new(&old.client).with_codec(codec);
                    let expected: &[[Expected; 2]] = &[$([$old_bare, $old_named]),*];
                    crate::carry!(row, OLD_FIRST, codec, expected, old::values(), old_writer, new_reader);
                    let new_writer = new::HolderClient::new(&old.client).with_codec(codec);
                    let old_reader = old::HolderClient::new(&new.client).with_codec(codec);
                    let expected: &[[Expected; 2]] = &[$([$new_bare, $new_named]),*];
                    crate::carry!(row, NEW_FIRST, codec, expected, new::values(), new_writer, old_reader);
                }
                row.check();
            });
        }
    };
}
use reshape;

/// The service that has a `Job` in each place.
macro_rules! holder {
    ($($value:expr),*) => {
        #[xero::service]
        pub(super) trait Holder {
            async fn put(&self, job: Job) -> String;
            async fn get(&self, number: usize) -> Job;
            async fn fail(&self, number: usize) -> Result<(), Job>;
        }

        pub(super) struct Here;

        #[xero::worker]
        impl Holder for Here {
            async fn put(&self, job: Job) -> String {
                format!("{job:?}")
            }

            async fn get(&self, number: usize) -> Job {
                values().swap_remove(number)
            }

            async fn fail(&self, number: usize) -> Result<(), Job> {
                Err(values().swap_remove(number))
            }
        }

        pub(super) fn values() -> Vec<Job> {
            vec![$($value),*]
        }
    };
}
use holder;

/// Carries values from a writer of one version to a reader of the other.
macro_rules! carry {
    ($row:ident, $direction:expr, $codec:ident, $expected:ident, $values:expr, $writer:ident, $reader:ident) => {
        for (number, value) in $values.into_iter().enumerate() {
            let expected = $expected[number][usize::from($codec.is_self_describing())];
            let about = format!("{} of {:?} in {}", $row.key(), value, $codec);
            let put = crate::unquoted($writer.put(value).await);
            let got = $reader.get(number).await;
            let failed = match $reader.fail(number).await {
                Err(CallError::Application(job)) => Ok(job),
                Err(error) => Err(error),
                Ok(()) => panic!("{about}: no error came"),
            };
            for word in
                [outcome(&about, expected, put), outcome(&about, expected, got), outcome(&about, expected, failed)]
            {
                $row.see($direction, $codec, word);
            }
        }
    };
}
use carry;

/// A text that is shown without quotes.
struct Shown(String);

impl Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn unquoted<E>(result: Result<String, CallError<E>>) -> Result<Shown, CallError<E>> {
    result.map(Shown)
}

/// Shorter than any deadline here, and longer than a call takes.
const SOON: Duration = Duration::from_millis(200);

fn shared<T>(value: T) -> Arc<T> {
    Arc::new(value)
}
