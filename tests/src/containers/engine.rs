//! The programs that talk to the Docker engine.

use std::{ffi::OsStr, process::Stdio};

use tokio::process::Command;

/// A Docker engine and its Compose.
#[derive(Clone, Debug)]
pub struct Engine {
    compose: &'static [&'static str],
}

impl Engine {
    /// The engine of this machine.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn find() -> Result<Self, String> {
        let version = docker(&["version", "--format", "{{.Server.Version}}"]).await;
        version.map_err(|error| format!("no Docker engine answers: {}", error.lines().last().unwrap_or_default()))?;
        for compose in COMPOSES {
            let version = [compose, &["version"]].concat();
            if output(version[0], &version[1..], &[]).await.is_ok() {
                return Ok(Self { compose });
            }
        }
        Err("there is a Docker engine but neither `docker compose` nor `docker-compose`".to_owned())
    }

    /// What a command of Compose prints.
    ///
    /// # Errors
    /// The command and what it has complained of.
    pub async fn compose(&self, arguments: &[&str], environment: &[(&str, String)]) -> Result<String, String> {
        let (program, arguments) = self.command(arguments);
        output(program, &arguments, environment).await
    }

    /// A command of Compose whose output goes where ours goes: for what takes long.
    ///
    /// # Errors
    /// The command and how it has ended.
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

/// What a command of `docker` prints.
///
/// # Errors
/// The command and what it has complained of.
pub async fn docker(arguments: &[&str]) -> Result<String, String> {
    output("docker", arguments, &[]).await
}

async fn output(program: &str, arguments: &[&str], environment: &[(&str, String)]) -> Result<String, String> {
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

/// How Compose may be called: as it is called now, and as it was called before.
const COMPOSES: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];
