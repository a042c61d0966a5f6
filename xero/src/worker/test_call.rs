//! A context without a worker, for unit tests of procedures that take one.

use std::{iter, time::Duration};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{
    command::Command,
    context::{Context, Place},
};
use crate::{
    codec::{self, CodecError},
    config::{TIMEOUT_DEFAULT, TIMEOUT_MAX},
    io::{
        clock,
        mailbox::{Mailbox, mailbox},
        thread::{IoThread, Owned},
    },
    proto::{
        message::{CallId, Codec, Metadata, Payload, Request},
        timer::Execution,
    },
};

impl Context {
    /// A context of a call that you make up, to test a procedure as the function that it is.
    ///
    /// ```
    /// use std::time::Duration;
    /// use xero::Context;
    ///
    /// #[xero::service]
    /// trait Reports {
    ///     async fn build(&self, cx: &Context, pages: u32) -> Option<String>;
    /// }
    ///
    /// struct Office;
    ///
    /// #[xero::worker]
    /// impl Reports for Office {
    ///     async fn build(&self, cx: &Context, pages: u32) -> Option<String> {
    ///         for page in 0..pages {
    ///             cx.partial(&page).await.ok()?;
    ///         }
    ///         cx.metadata().get("tenant").map(|value| String::from_utf8_lossy(value).into_owned())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (cx, mut call) = Context::builder().metadata("tenant", "north").build();
    /// assert_eq!(Office.build(&cx, 2).await.as_deref(), Some("north"));
    /// assert_eq!(call.partials::<u32>()?, [0, 1]);
    ///
    /// call.cancel();
    /// assert!(cx.is_cancelled());
    /// assert_eq!(Office.build(&cx, 2).await, None, "nobody takes partial replies any more");
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> ContextBuilder {
        ContextBuilder::default()
    }
}

/// The call that a [`Context`] for a test belongs to: see [`Context::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ContextBuilder {
    service: String,
    method: String,
    metadata: Metadata,
    timeout: Duration,
    attempt: u8,
    codec: Codec,
    reply_bytes_max: usize,
}

impl Default for ContextBuilder {
    fn default() -> Self {
        Self {
            service: "Test".to_owned(),
            method: "test".to_owned(),
            metadata: Metadata::new(),
            timeout: TIMEOUT_DEFAULT,
            attempt: 1,
            codec: Codec::default(),
            reply_bytes_max: usize::MAX,
        }
    }
}

impl ContextBuilder {
    /// The called service. Default `Test`.
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.service = name.into();
        self
    }

    /// The called method. Default `test`.
    pub fn method(mut self, name: impl Into<String>) -> Self {
        self.method = name.into();
        self
    }

    /// A value that the caller has sent beside the arguments. Default none.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// The time until the deadline, counted from [`Self::build`]. Default 5 s.
    ///
    /// When it has passed, `remaining` is zero. Nothing else happens then: [`TestCall::cancel`] cancels the call.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The attempt. Default 1.
    pub fn attempt(mut self, attempt: u8) -> Self {
        self.attempt = attempt;
        self
    }

    /// The caller's codec, in which partial replies are written. Default that of a client.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// The largest partial reply that the caller accepts, in bytes. Default any.
    pub fn payload_bytes_max(mut self, bytes: usize) -> Self {
        self.reply_bytes_max = bytes;
        self
    }

    /// The context, and the caller's end of it.
    pub fn build(self) -> (Context, TestCall) {
        let Self { service, method, metadata, timeout, attempt, codec, reply_bytes_max } = self;
        let request = Request {
            call: CallId(Uuid::new_v4().as_u64_pair().0),
            attempt,
            idempotent: false,
            as_declared: false,
            fail_fast: false,
            service: service.into(),
            method: method.into(),
            fingerprint: 0,
            remaining: timeout,
            metadata,
            payload: Payload { codec, bytes: Bytes::new() },
        };
        let (commands, mailbox) = mailbox();
        let place = Place {
            worker: Uuid::new_v4(),
            execution: Execution(1),
            deadline: clock::now() + timeout.min(TIMEOUT_MAX),
            reply_bytes_max,
            commands: Owned::new(IoThread::new(), commands),
        };
        let context = Context::new(request, place);
        context.lift_bound();
        (context.clone(), TestCall { context, mailbox })
    }
}

/// The caller's end of a [`Context`] for a test. Dropping it cancels the call, as a caller's drop does.
#[derive(Debug)]
#[must_use = "dropping it cancels the call"]
pub struct TestCall {
    context: Context,
    mailbox: Mailbox<Command>,
}

impl TestCall {
    /// Takes the next partial reply, if one was sent. An error means that it is no `T`.
    pub fn partial<T: DeserializeOwned>(&mut self) -> Option<Result<T, CodecError>> {
        loop {
            if let Command::Partial(_, payload) = self.mailbox.take().ok()? {
                return Some(codec::decode(&payload));
            }
        }
    }

    /// Takes all partial replies that were sent since the last time.
    ///
    /// # Errors
    /// When one of them is no `T`. It is taken, with those before it.
    pub fn partials<T: DeserializeOwned>(&mut self) -> Result<Vec<T>, CodecError> {
        iter::from_fn(|| self.partial()).collect()
    }

    /// Tells the procedure that nobody waits for its reply any more: `cancelled` returns, and partial replies fail.
    ///
    /// On a worker, a procedure that runs in a task would also be dropped at its next `await`.
    pub fn cancel(&self) {
        self.context.cancel();
    }
}

impl Drop for TestCall {
    fn drop(&mut self) {
        self.cancel();
    }
}
