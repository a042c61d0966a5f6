//! The steps of the tour: each does one thing, reports it, and checks it.

use std::{collections::BTreeSet, time::Duration};

use tokio::{task::JoinSet, time::Instant};
use xero::{CallError, Client, PendingCall, RpcError, Value};

use super::{
    Outcome, Unexpected,
    crew::Crew,
    story::{Story, time},
};
use crate::{DemoClient, DemoError, WhoAmI};

/// The participants.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) demo: DemoClient,
    pub(super) client: Client,
    pub(super) crew: Crew,
    pub(super) story: Story,
}

impl Stage {
    pub(super) async fn start(&mut self) -> Outcome {
        self.story.say(format_args!("the client binds {}", self.client.endpoint()));
        for _ in 0..WORKERS {
            let name = self.crew.start()?;
            self.story.say(format_args!("{name} starts"));
        }
        self.all_connected().await?;
        self.story.say("all three have registered, and exchange heartbeats with the client from now on");
        Ok(())
    }

    pub(super) async fn call_every_method(&self) -> Outcome {
        let Self { demo, story, .. } = self;
        let began = Instant::now();
        let pong = demo.ping().await?;
        check(pong == "pong", || format!("ping replied {pong:?}"))?;
        story.say(format_args!("ping() -> {pong:?}, in {}", time(began.elapsed())));
        for (other, expected) in [("apple", (true, 1)), ("orange", (false, 2))] {
            let reply = demo.compare("apple".to_owned(), other.to_owned()).await?;
            check(reply == expected, || format!("compare replied {reply:?}"))?;
            story.say(format_args!("compare(\"apple\", {other:?}) -> {reply:?}"));
        }
        demo.return_none().await?;
        story.say("return_none() -> ()");
        let echo = demo.echo("¡hola!".to_owned()).await?;
        check(echo == "¡hola!", || format!("echo replied {echo:?}"))?;
        story.say(format_args!("echo(\"¡hola!\") -> {echo:?}"));
        let WhoAmI { worker, pid } = demo.whoami().await?;
        story.say(format_args!("whoami() -> {worker}, process {pid}: {}", self.crew.name(pid)));
        self.call_slow_methods().await
    }

    async fn call_slow_methods(&self) -> Outcome {
        let Self { demo, story, .. } = self;
        let began = Instant::now();
        let mut call = demo.slow_succeed(0.3).start();
        started(&mut call).await?;
        story.say(format_args!("slow_succeed(0.3) sends \"started\" after {}", time(began.elapsed())));
        let reply = call.await?;
        check(reply, || "slow_succeed replied false".to_owned())?;
        story.say(format_args!("    and replies {reply} after {}", time(began.elapsed())));
        let began = Instant::now();
        let mut call = demo.slow_fail(0.3).start();
        started(&mut call).await?;
        match call.await {
            Err(CallError::Application(error @ DemoError::Failed { .. })) => {
                story.say("slow_fail(0.3) sends \"started\" too");
                let took = time(began.elapsed());
                story.say(format_args!("    and after {took} its own error, of its own type: \"{error}\""));
                Ok(())
            }
            other => Err(unexpected("slow_fail", &other)),
        }
    }

    pub(super) async fn make_mistakes(&self) -> Outcome {
        let Self { client, demo, story, .. } = self;
        let error = client.call("Demo.dance").await.err();
        self.told("a method that is not there", error, |error| {
            matches!(error, CallError::Rpc(RpcError::UnknownMethod { .. }))
        })?;
        let misspelt = serde_json::json!({ "str1": "apple", "string2": "orange" });
        let error = client.call("Demo.compare").arguments(&misspelt).await.err();
        self.told("a misspelt argument", error, |error| {
            matches!(error, CallError::Rpc(RpcError::InvalidArguments { .. }))
        })?;
        let error = client.call("Demo.compare").arguments(&("apple",)).await.err();
        self.told("one argument of two", error, |error| {
            matches!(error, CallError::Rpc(RpcError::InvalidArguments { .. }))
        })?;
        match demo.slow_succeed(-1.0).await {
            Err(CallError::Application(error @ DemoError::InvalidSeconds { .. })) => {
                story.say(format_args!("less than no time: \"{error}\""));
            }
            other => return Err(unexpected("slow_succeed(-1.0)", &other)),
        }
        let began = Instant::now();
        demo.ping().await?;
        story.say(format_args!("and the next ping is answered in {}", time(began.elapsed())));
        Ok(())
    }

    /// Reports an error, which must be of a kind, and must say that nothing has run.
    fn told(
        &self,
        mistake: &str,
        error: Option<CallError<Value>>,
        is_expected: impl Fn(&CallError<Value>) -> bool,
    ) -> Outcome {
        let error = error.ok_or_else(|| format!("{mistake}: the call succeeded"))?;
        check(is_expected(&error) && !error.maybe_executed(), || format!("{mistake}: {error}"))?;
        self.story.say(format_args!("{mistake}: \"{error}\""));
        Ok(())
    }

    pub(super) async fn run_side_by_side(&self) -> Outcome {
        let Self { demo, story, .. } = self;
        let began = Instant::now();
        let mut slow = JoinSet::new();
        for _ in 0..SIDE_BY_SIDE {
            let demo = demo.clone();
            slow.spawn(async move { demo.slow_succeed(1.0).await });
        }
        story.say(format_args!(
            "{SIDE_BY_SIDE} calls of slow_succeed(1.0) run, and ping is called meanwhile, again and again"
        ));
        let (mut pings, mut slowest) = (0_u32, Duration::ZERO);
        while slow.len() == SIDE_BY_SIDE {
            let ping_began = Instant::now();
            demo.ping().await?;
            (pings, slowest) = (pings + 1, slowest.max(ping_began.elapsed()));
            while let Some(ended) = slow.try_join_next() {
                check(ended??, || "slow_succeed replied false".to_owned())?;
            }
        }
        story.say(format_args!(
            "{pings} pings were answered before the first slow call was, the slowest in {}",
            time(slowest)
        ));
        while let Some(ended) = slow.join_next().await {
            check(ended??, || "slow_succeed replied false".to_owned())?;
        }
        let took = began.elapsed();
        story.say(format_args!(
            "the slow calls have all ended after {}; one after the other they would take {SIDE_BY_SIDE} s",
            time(took)
        ));
        check(pings >= 10, || format!("only {pings} pings were answered in a second"))?;
        check(took < Duration::from_secs(SIDE_BY_SIDE as u64 / 2), || "the slow calls held each other up".to_owned())
    }

    pub(super) async fn kill_idempotent(&mut self) -> Outcome {
        let story = self.story;
        let pid = self.next_in_line().await?;
        let began = Instant::now();
        let mut call = self.demo.slow_succeed(1.0).start();
        started(&mut call).await?;
        story.say(format_args!(
            "slow_succeed(1.0), which is declared idempotent, has started at {}",
            self.crew.name(pid)
        ));
        tokio::time::sleep(INTO_THE_CALL).await;
        story.say(format_args!("{} is killed (SIGKILL)", self.crew.name(pid)));
        let killed = Instant::now();
        self.crew.kill(pid).await?;
        started(&mut call).await.map_err(|_| "the call was not started again")?;
        story.say(format_args!(
            "\"started\" comes again, from another worker, {} after the kill",
            time(killed.elapsed())
        ));
        check(call.await?, || "slow_succeed replied false".to_owned())?;
        story.say(format_args!("the call has succeeded, {} after it was made", time(began.elapsed())));
        self.all_connected().await
    }

    pub(super) async fn kill_other(&mut self) -> Outcome {
        let story = self.story;
        let pid = self.next_in_line().await?;
        let mut call = self.demo.slow_fail(1.0).start();
        started(&mut call).await?;
        story.say(format_args!("slow_fail(1.0), which is not idempotent, has started at {}", self.crew.name(pid)));
        tokio::time::sleep(INTO_THE_CALL).await;
        story.say(format_args!("{} is killed (SIGKILL)", self.crew.name(pid)));
        let killed = Instant::now();
        self.crew.kill(pid).await?;
        check(call.partial().await.is_none(), || "it was started a second time".to_owned())?;
        match call.await {
            Err(error @ CallError::Rpc(RpcError::WorkerLost { attempts: 1, maybe_executed: true, .. })) => {
                story.say(format_args!("{} later the caller gets the error: \"{error}\"", time(killed.elapsed())));
                story.say("it was not repeated: the caller decides what to do, and knows that it may have run");
            }
            other => return Err(unexpected("slow_fail", &other)),
        }
        self.all_connected().await
    }

    pub(super) async fn restart(&mut self) -> Outcome {
        let began = Instant::now();
        let before = self.pids_in_turn().await?;
        while self.crew.len() < WORKERS {
            let name = self.crew.start()?;
            self.story.say(format_args!("{name} starts"));
        }
        self.all_connected().await?;
        self.story.say(format_args!("it took {} until three workers were registered again", time(began.elapsed())));
        for pid in self.pids_in_turn().await? {
            let since = if before.contains(&pid) { "not restarted" } else { "new" };
            self.story.say(format_args!("whoami() -> {}, {since}", self.crew.name(pid)));
        }
        Ok(())
    }

    pub(super) async fn drain(&mut self) -> Outcome {
        let story = self.story;
        let pid = self.next_in_line().await?;
        let name = self.crew.name(pid);
        let mut call = self.demo.slow_fail(0.5).start();
        started(&mut call).await?;
        story.say(format_args!("slow_fail(0.5) has started at {name}, which is stopped"));
        let told = Instant::now();
        // The procedure's own result is its reply, even if that is an error: it was not cut short.
        let (ended, stopped) = tokio::join!(call, async { self.crew.stop(pid).await.map(|()| told.elapsed()) });
        let took = stopped?;
        check(took > INTO_THE_CALL, || format!("the worker stopped after {took:?}, before its call had ended"))?;
        match ended {
            Err(CallError::Application(error)) => {
                story.say(format_args!("the call still ends with its own error: \"{error}\""))
            }
            other => return Err(unexpected("slow_fail", &other)),
        }
        story.say(format_args!("{name} has finished, said goodbye and ended with exit code 0 after {}", time(took)));
        self.all_connected().await
    }

    pub(super) async fn go_home(&mut self) -> Outcome {
        let began = Instant::now();
        self.crew.stop_all().await?;
        self.client.close().await;
        self.story.say(format_args!("the workers have stopped and the client is closed, in {}", time(began.elapsed())));
        Ok(())
    }

    /// The worker of the next call: the one that has gone longest without.
    async fn next_in_line(&self) -> Outcome<u32> {
        self.pids_in_turn().await?.first().copied().ok_or_else(|| "there is no worker".into())
    }

    /// Asks each worker for its process, in one round of calls. The least recently used one gets each call, so each
    /// answers once, and keeps this order from then on.
    async fn pids_in_turn(&self) -> Outcome<Vec<u32>> {
        let mut pids = Vec::new();
        for _ in 0..self.crew.len() {
            pids.push(self.demo.whoami().await?.pid);
        }
        let distinct: BTreeSet<_> = pids.iter().collect();
        check(distinct.len() == pids.len(), || format!("of {} workers only {} answer", pids.len(), distinct.len()))?;
        Ok(pids)
    }

    /// Waits until the client knows exactly the running workers.
    async fn all_connected(&self) -> Outcome {
        let wanted = self.crew.len();
        let connected = async {
            while self.client.workers().len() != wanted {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        let outcome = tokio::time::timeout(CONNECT_MAX, connected).await;
        outcome.map_err(|_| format!("{wanted} workers run, and {} are registered", self.client.workers().len()).into())
    }
}

const WORKERS: usize = 3;

const SIDE_BY_SIDE: usize = 12;

/// The middle of a call that takes a second; less than half of it.
const INTO_THE_CALL: Duration = Duration::from_millis(400);

/// Often enough for the reported timings, and rarely enough to cost nothing.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A worker registers within milliseconds of its start; this is for a machine that is busy with something else.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Waits for the partial reply "started".
async fn started<T, E>(call: &mut PendingCall<T, E>) -> Outcome {
    let partial = call.partial().await.ok_or("the call ended before it sent \"started\"")?;
    let text: String = partial.decode()?;
    check(text == "started", || format!("the partial reply was {text:?}"))
}

fn check(holds: bool, otherwise: impl Fn() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise().into()) }
}

fn unexpected(what: &str, outcome: &impl std::fmt::Debug) -> Unexpected {
    format!("{what} ended with {outcome:?}").into()
}
