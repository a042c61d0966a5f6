//! One test's own containers and networks.

use std::{fs, path::PathBuf, time::Duration};

use tokio::{process::Child, time::sleep};

use super::{
    container::Container,
    engine::{Engine, docker, docker_always, must},
    repository,
};
use crate::scene::eventually;

/// The containers and networks of one test.
#[derive(Debug)]
pub struct Stack {
    engine: Engine,
    file: PathBuf,
    project: String,
    /// The settings in the environment of the Compose file.
    settings: Vec<(&'static str, String)>,
    /// The logs of containers that may be gone at the end.
    followed: Vec<(PathBuf, Child)>,
    logs: PathBuf,
}

impl Stack {
    /// A stack without containers so far. The Compose file's path starts at the repository's root; a failed test leaves
    /// its logs in that directory.
    pub fn new(engine: &Engine, name: &str, file: &str, settings: Vec<(&'static str, String)>, logs: PathBuf) -> Self {
        let _ = fs::remove_dir_all(&logs);
        let (file, project) = (repository().join(file), format!("{PREFIX}{name}"));
        Self { engine: engine.clone(), file, project, settings, followed: Vec::new(), logs }
    }

    /// Starts these services with those they depend on; all services if none is named.
    pub async fn up(&self, services: &[&str]) {
        self.compose(&[&["up", "--detach", "--no-build", "--no-recreate"], services].concat()).await;
    }

    /// Starts that service without those it depends on.
    pub async fn up_alone(&self, service: &str) {
        self.compose(&["up", "--detach", "--no-build", "--no-recreate", "--no-deps", service]).await;
    }

    /// Runs a command in a container of that service under that service's name; returns its exit code and its output.
    pub async fn run(&self, service: &str, command: &[&str]) -> (i32, String) {
        let name = format!("{}_{service}_run", self.project);
        let run = ["run", "--name", &name, "--no-deps", "--use-aliases", "-T", service];
        let printed = self.try_compose(&[&run, command].concat()).await;
        let format = "{{.State.ExitCode}}";
        let removed = async {
            let code = docker(&["inspect", "--format", format, &name]).await?;
            docker(&["rm", &name]).await?;
            code.trim().parse().map_err(|_| format!("{code} is no exit code"))
        };
        let printed = printed.unwrap_or_else(|mistake| mistake);
        let code = removed.await.unwrap_or_else(|mistake: String| panic!("{mistake}\n{printed}"));
        (code, printed)
    }

    /// Scales that service to this many containers: starts more, or asks the newest to leave.
    pub async fn scale(&self, service: &str, count: usize) {
        let scale = format!("{service}={count}");
        self.compose(&["up", "--detach", "--no-build", "--no-recreate", "--no-deps", "--scale", &scale, service]).await;
    }

    /// The output of a Compose command for this project.
    pub async fn compose(&self, arguments: &[&str]) -> String {
        must(self.try_compose(arguments).await)
    }

    /// The same.
    ///
    /// # Errors
    /// The command and its error output.
    pub async fn try_compose(&self, arguments: &[&str]) -> Result<String, String> {
        let file = self.file.to_str().expect("a path in Unicode");
        let project = ["--project-name", &self.project, "--file", file];
        self.engine.compose(&[&project, arguments].concat(), &self.settings).await
    }

    /// The one container of that service.
    pub async fn container(&self, service: &str) -> Container {
        let containers = self.containers(service).await;
        let [container] = &containers[..] else { panic!("{service} has {} containers", containers.len()) };
        container.clone()
    }

    /// All containers of that service, in the order of their numbers.
    pub async fn containers(&self, service: &str) -> Vec<Container> {
        let mut containers = must(self.labelled(&format!("com.docker.compose.service={service}")).await);
        containers.sort_by(|one, other| (one.name.len(), &one.name).cmp(&(other.name.len(), &other.name)));
        containers
    }

    /// Starts a container on these networks that only takes addresses.
    pub async fn squat(&self, networks: &[String]) {
        let project = format!("com.docker.compose.project={}", self.project);
        let labels = ["--label", &project, "--label", "com.docker.compose.service=squatter"];
        let (name, nothing) = (format!("{}_squatter_1", self.project), ["crew", "link", "127.0.0.1:1024=nowhere:1"]);
        let (first, others) = networks.split_first().expect("there is a network");
        let run = ["run", "--detach", "--name", &name, "--network", first];
        let squat = async {
            docker(&[&run[..], &labels, &["xero-tests"], &nothing].concat()).await?;
            for network in others {
                docker(&["network", "connect", network, &name]).await?;
            }
            Ok(())
        };
        must(squat.await);
    }

    /// All containers.
    pub async fn all(&self) -> Vec<Container> {
        must(self.labelled("com.docker.compose.service").await)
    }

    /// The test's name.
    pub fn name(&self) -> &str {
        self.project.trim_start_matches(PREFIX)
    }

    /// The engine's name for a network of the Compose file.
    pub fn network(&self, name: &str) -> String {
        format!("{}_{name}", self.project)
    }

    /// Keeps that container's log from now on, because it will be removed.
    pub async fn keep_log(&mut self, container: &Container) {
        fs::create_dir_all(&self.logs).expect("the directory for logs can be made");
        let path = self.logs.join(format!("{}.removed.log", container.name));
        self.followed.push((path.clone(), container.follow(&path)));
        let is_followed = async || fs::metadata(&path).is_ok_and(|file| file.len() > 0);
        eventually(&format!("the log of {} is followed", container.name), is_followed).await;
    }

    /// The output of each container, including removed ones, by service and number.
    pub async fn outputs(&mut self) -> Vec<(String, String)> {
        let mut outputs = Vec::new();
        for (path, mut follower) in self.followed.drain(..) {
            follower.wait().await.expect("it can be waited for");
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            outputs.push((name, fs::read_to_string(&path).expect("it was written")));
        }
        for container in self.all().await {
            outputs.push((container.name.clone(), container.output().await));
        }
        outputs
    }

    /// Removes the containers and networks. If the test has failed, saves the output of all containers.
    ///
    /// # Errors
    /// When something could not be removed or saved; everything else was.
    pub async fn down(self, has_failed: bool) -> Result<(), String> {
        let saved = if has_failed { self.save().await } else { Ok(()) };
        if !has_failed {
            let _ = fs::remove_dir_all(&self.logs);
        }
        let removed = remove_all(&format!("label=com.docker.compose.project={}", self.project)).await;
        saved.and(removed.map(|_| ()))
    }

    async fn save(&self) -> Result<(), String> {
        fs::create_dir_all(&self.logs).map_err(|error| error.to_string())?;
        for container in self.labelled("com.docker.compose.service").await? {
            container.save(&self.logs.join(format!("{}.log", container.name))).await;
        }
        Ok(())
    }

    async fn labelled(&self, label: &str) -> Result<Vec<Container>, String> {
        let (project, label) = (format!("label=com.docker.compose.project={}", self.project), format!("label={label}"));
        let ids = docker(&["ps", "--all", "--quiet", "--filter", &project, "--filter", &label]).await?;
        let mut containers = Vec::new();
        for id in ids.lines() {
            containers.push(Container::of(id).await?);
        }
        Ok(containers)
    }
}

/// Removes everything that a killed run has left; returns how much.
///
/// # Errors
/// When the engine refuses.
pub async fn sweep() -> Result<usize, String> {
    remove_all(&format!("name=^/?{PREFIX}")).await
}

/// Removes everything that exists or still appears, until nothing more does.
pub async fn sweep_until_quiet() {
    let mut quiet = 0;
    for _ in 0..SWEEPS_MAX {
        quiet = if matches!(sweep().await, Ok(0)) { quiet + 1 } else { 0 };
        if quiet == 2 {
            return;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Removes all containers and networks that match the engine's filter, because Compose leaves those it has not made.
async fn remove_all(filter: &str) -> Result<usize, String> {
    let containers = remove(&["ps", "--all", "--quiet"], &["rm", "--force", "--volumes"], filter).await;
    // Also if a container was gone before its removal. An engine may go on believing that a container is on a network,
    // and then keeps the network until the engine restarts: it harms nobody.
    let networks = remove(&["network", "ls", "--quiet"], &["network", "rm"], filter).await;
    let networks = networks.unwrap_or_else(|mistake| {
        eprintln!("the engine keeps a network: {mistake}");
        0
    });
    Ok(containers? + networks)
}

async fn remove(list: &[&str], remove: &[&str], filter: &str) -> Result<usize, String> {
    let found = docker_always(&[list, &["--filter", filter]].concat()).await?;
    let found: Vec<_> = found.lines().collect();
    if !found.is_empty() {
        docker_always(&[remove, &found].concat()).await?;
    }
    Ok(found.len())
}

/// The prefix of all project names.
const PREFIX: &str = "xero-tests-";

/// The time limit of a test, with the start and end of its containers.
pub const TEST_MAX: Duration = Duration::from_secs(300);

/// Checks, a second apart, for anything left: a start in progress takes less time.
const SWEEPS_MAX: u32 = 30;
