//! The programs that control the Docker engine.

use std::{
    ffi::OsStr,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::process::Command;

/// A Docker engine and its Compose.
#[derive(Clone, Debug)]
pub struct Engine {
    compose: &'static [&'static str],
}

/// Why no engine is usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// None is installed, or none runs.
    Nowhere(String),
    /// One runs, but is not usable as it is.
    Unusable(String),
}

impl Engine {
    /// The engine of this machine.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn find() -> Result<Self, Absence> {
        docker(&["version", "--format", "{{.Server.Version}}"]).await.map_err(|error| absence(&error))?;
        for compose in COMPOSES {
            let version = [compose, &["version"]].concat();
            if output(version[0], &version[1..], &[]).await.is_ok() {
                return Ok(Self { compose });
            }
        }
        Err(Absence::Unusable("it has neither `docker compose` nor `docker-compose`".to_owned()))
    }

    /// The output of a Compose command.
    ///
    /// # Errors
    /// The command and its error output.
    pub async fn compose(&self, arguments: &[&str], environment: &[(&str, String)]) -> Result<String, String> {
        let (program, arguments) = self.command(arguments);
        output(program, &arguments, environment).await
    }

    /// Runs a Compose command with our own output, for long ones.
    ///
    /// # Errors
    /// The command and how it ended.
    pub async fn compose_aloud(&self, arguments: &[&str]) -> Result<(), String> {
        let (program, arguments) = self.command(arguments);
        let status = Command::new(program).args(&arguments).stdin(Stdio::null()).status().await;
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{} ended with {status}", shown(program, &arguments))),
            Err(error) => Err(format!("{}: {error}", shown(program, &arguments))),
        }
    }

    fn command<'a>(&self, arguments: &[&'a str]) -> (&'static str, Vec<&'a str>) {
        let (program, first) = self.compose.split_first().expect("a command has a program");
        (program, [first, arguments].concat())
    }
}

/// The meaning of an unknown engine version.
fn absence(error: &str) -> Absence {
    let reason = error.lines().last().unwrap_or_default().to_owned();
    let is_refused = error.contains("permission denied");
    match !is_refused && NOBODY.iter().any(|sign| error.contains(sign)) {
        true => Absence::Nowhere(reason),
        false => Absence::Unusable(reason),
    }
}

/// The output of a `docker` command.
///
/// # Errors
/// The command and its error output.
pub async fn docker(arguments: &[&str]) -> Result<String, String> {
    output("docker", arguments, &[]).await
}

/// The same, even after [`come_to_an_end`]: for removals.
///
/// # Errors
/// The command and its error output.
pub async fn docker_always(arguments: &[&str]) -> Result<String, String> {
    run("docker", arguments, &[]).await
}

/// From now on only removals run.
pub fn come_to_an_end() {
    IS_ENDING.store(true, Ordering::Relaxed);
}

/// The value of an outcome that must succeed; otherwise the test fails with its error.
pub(super) fn must<T>(outcome: Result<T, String>) -> T {
    outcome.unwrap_or_else(|mistake| panic!("{mistake}"))
}

async fn output(program: &str, arguments: &[&str], environment: &[(&str, String)]) -> Result<String, String> {
    if IS_ENDING.load(Ordering::Relaxed) {
        return Err(format!("{} was not run, as all come to their end", shown(program, arguments)));
    }
    run(program, arguments, environment).await
}

async fn run(program: &str, arguments: &[&str], environment: &[(&str, String)]) -> Result<String, String> {
    let mut command = Command::new(OsStr::new(program));
    command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.map_err(|error| format!("{}: {error}", shown(program, arguments)))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => {
            let said = text(&output.stdout) + &text(&output.stderr);
            Err(format!("{} ended with {}:\n{said}", shown(program, arguments), output.status))
        }
    }
}

fn shown(program: &str, arguments: &[&str]) -> String {
    format!("`{program} {}`", arguments.join(" "))
}

static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// The system's message about a missing program, and those of two versions of `docker` about an engine that does not
/// run.
const NOBODY: [&str; 3] =
    ["No such file or directory", "Cannot connect to the Docker daemon", "failed to connect to the docker API"];

/// The commands of Compose: the present one, and the older one.
const COMPOSES: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusing_engine_differs_from_an_absent_one() {
        let missing = absence("`docker version`: No such file or directory (os error 2)");
        assert!(matches!(missing, Absence::Nowhere(_)));
        let stopped = "`docker version` ended with exit status: 1:\n\nCannot connect to the Docker daemon at \
                       unix:///var/run/docker.sock. Is the docker daemon running?";
        assert!(matches!(absence(stopped), Absence::Nowhere(reason) if reason.starts_with("Cannot connect")));
        let refusing = "`docker version` ended with exit status: 1:\npermission denied while trying to connect to the \
                        Docker daemon socket at unix:///var/run/docker.sock: connect: permission denied";
        assert!(matches!(absence(refusing), Absence::Unusable(_)));
    }

    #[test]
    fn error_of_an_absent_engine_is_as_expected() {
        let nowhere = [("DOCKER_HOST", "tcp://127.0.0.1:1".to_owned())];
        let asked = crate::scene::runtime(1).block_on(output(
            "docker",
            &["version", "--format", "{{.Server.Version}}"],
            &nowhere,
        ));
        assert!(matches!(absence(&asked.expect_err("nobody listens there")), Absence::Nowhere(_)));
    }
}
