//! Interrupt and terminate: the first signal asks for an orderly end, the second ends at once.

use std::{io, process, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::Instant,
};

/// The exit code of a program that was interrupted before it had a result.
pub const INTERRUPTED: u8 = 130;

/// How long after the first signal another one means impatience.
///
/// An earlier one repeats the same request: `timeout`, for one, signals a process and then its group.
pub const IMPATIENT_AFTER: Duration = Duration::from_millis(300);

/// Catches SIGINT and SIGTERM, from its creation on.
#[derive(Clone, Debug)]
pub struct Signals {
    heard: watch::Receiver<bool>,
}

impl Signals {
    /// Starts listening.
    ///
    /// A second signal, [`IMPATIENT_AFTER`] the first or later, ends the process at once, with the exit code 130.
    ///
    /// # Errors
    /// When the system does not allow handling signals.
    pub fn listen() -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (sender, heard) = watch::channel(false);
        tokio::spawn(async move {
            either(&mut interrupt, &mut terminate).await;
            let first_at = Instant::now();
            // The program may not wait for it; the second signal still counts.
            let _ = sender.send(true);
            loop {
                either(&mut interrupt, &mut terminate).await;
                if first_at.elapsed() >= IMPATIENT_AFTER {
                    process::exit(INTERRUPTED.into());
                }
            }
        });
        Ok(Self { heard })
    }

    /// Waits for the first signal.
    pub async fn first(&self) {
        let mut heard = self.heard.clone();
        if heard.wait_for(|heard| *heard).await.is_err() {
            // The listener has ended with its runtime, so no signal can arrive.
            std::future::pending::<()>().await;
        }
    }
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
