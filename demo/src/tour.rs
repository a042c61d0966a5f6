//! The tour: a client in this process, workers in processes of their own, and what happens when some of them die.

mod brokers;
mod crew;
mod steps;
mod story;

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use tracing::level_filters::LevelFilter;
use xero::Client;

use self::{crew::Crew, steps::Stage, story::Story};
use crate::{
    DemoClient,
    report::complain,
    signals::{INTERRUPTED, Signals},
    worker::log,
};

/// Why a step did not do what it says.
type Unexpected = Box<dyn Error + Send + Sync>;

/// The result of a step.
type Outcome<T = ()> = Result<T, Unexpected>;

/// Runs all of the tour. The exit code is 0 only if each step did what it says.
pub async fn tour() -> ExitCode {
    log(LevelFilter::ERROR);
    let story = Story::begin();
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!("cannot handle signals: {error}"));
            return ExitCode::FAILURE;
        }
    };
    // However this ends, the workers end with the future that holds them.
    let outcome = tokio::select! {
        biased;
        () = signals.first() => {
            complain("interrupted; the workers are stopped");
            return ExitCode::from(INTERRUPTED);
        }
        outcome = follow(story) => outcome,
    };
    match outcome {
        Ok(()) => {
            story.end();
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = io::stdout().flush();
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn follow(story: Story) -> Outcome {
    let client = Client::bind("tcp://127.0.0.1:0").await?;
    let crew = Crew::new(client.endpoint())?;
    let mut stage = Stage { demo: DemoClient::new(&client), client, crew, story };
    let stage = &mut stage;
    step(story, "Three workers, each a process of its own, dial in to one client", stage.start()).await?;
    step(story, "Every method of the service is called", stage.call_every_method()).await?;
    step(story, "Mistakes get an error and disturb no other call", stage.make_mistakes()).await?;
    step(story, "Calls run side by side, and slow ones delay no others", stage.run_side_by_side()).await?;
    step(story, "A worker is killed in the middle of a call that may be repeated", stage.kill_idempotent()).await?;
    step(story, "A worker is killed in the middle of a call that may not be repeated", stage.kill_other()).await?;
    step(story, "The killed workers are started again", stage.restart()).await?;
    step(story, "A worker drains in the middle of a call", stage.drain()).await?;
    step(story, "Two brokers route calls, and one of them closes", brokers::lose_one(story)).await?;
    step(story, "The workers and the client stop", stage.go_home()).await
}

/// Runs one step under its title, which also names it when it fails.
async fn step(story: Story, title: &str, step: impl Future<Output = Outcome>) -> Outcome {
    story.title(title);
    let outcome = tokio::time::timeout(STEP_MAX, step).await;
    let outcome = outcome.unwrap_or_else(|_| Err(format!("it took longer than {STEP_MAX:?}").into()));
    outcome.map_err(|error| format!("the tour failed at the step \"{title}\": {error}").into())
}

/// No step takes nearly as long on a working machine; a step that hangs must not hang the tour.
const STEP_MAX: Duration = Duration::from_secs(20);
