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
    /// What the Compose file asks of the environment.
    settings: Vec<(&'static str, String)>,
    /// The logs of containers that are not to be there any more at the end.
    followed: Vec<(PathBuf, Child)>,
    logs: PathBuf,
}

impl Stack {
    /// None of its containers is there yet. The Compose file is named from the repository's root; the logs of a test that
    /// fails are left in that directory.
    pub fn new(engine: &Engine, name: &str, file: &str, settings: Vec<(&'static str, String)>, logs: PathBuf) -> Self {
        let _ = fs::remove_dir_all(&logs);
        let (file, project) = (repository().join(file), format!("{PREFIX}{name}"));
        Self { engine: engine.clone(), file, project, settings, followed: Vec::new(), logs }
    }

    /// Starts these services, and those they depend on; all of them if none is named.
    pub async fn up(&self, services: &[&str]) {
        self.compose(&[&["up", "--detach", "--no-build", "--no-recreate"], services].concat()).await;
    }

    /// Starts that service and none that it depends on.
    pub async fn up_alone(&self, service: &str) {
        self.compose(&["up", "--detach", "--no-build", "--no-recreate", "--no-deps", service]).await;
    }

    /// Runs a command in a container of that service under that service's name; its exit code and what it has printed.
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

    /// Sees to it that there are so many containers of that service: more are started, the newest are asked to leave.
    pub async fn scale(&self, service: &str, count: usize) {
        let scale = format!("{service}={count}");
        self.compose(&["up", "--detach", "--no-build", "--no-recreate", "--no-deps", "--scale", &scale, service]).await;
    }

    /// What a command of Compose prints, given this project.
    pub async fn compose(&self, arguments: &[&str]) -> String {
        must(self.try_compose(arguments).await)
    }

    /// The same.
    ///
    /// # Errors
    /// The command and what it has complained of.
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

    /// Starts a container on these networks that does nothing but have addresses.
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

    /// A network of the Compose file by the engine's name for it.
    pub fn network(&self, name: &str) -> String {
        format!("{}_{name}", self.project)
    }

    /// Keeps that container's log from now on, as it is to be removed.
    pub async fn keep_log(&mut self, container: &Container) {
        fs::create_dir_all(&self.logs).expect("the directory for logs can be made");
        let path = self.logs.join(format!("{}.removed.log", container.name));
        self.followed.push((path.clone(), container.follow(&path)));
        let is_followed = async || fs::metadata(&path).is_ok_and(|file| file.len() > 0);
        eventually(&format!("the log of {} is followed", container.name), is_followed).await;
    }

    /// What each container has printed, those that are gone included: by service and number.
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

    /// Removes the containers and networks. If the test has failed, leaves what all containers have said.
    ///
    /// # Errors
    /// When something could not be removed or saved; all that could be, was.
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

/// Removes whatever a run has left that was killed; how much that was.
///
/// # Errors
/// When the engine refuses.
pub async fn sweep() -> Result<usize, String> {
    remove_all(&format!("name=^/?{PREFIX}")).await
}

/// Removes whatever is there and whatever is still on its way, until nothing more comes.
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

/// Removes all containers and networks that the engine finds by that. Not by Compose: it leaves what it has not made.
async fn remove_all(filter: &str) -> Result<usize, String> {
    let containers = remove(&["ps", "--all", "--quiet"], &["rm", "--force", "--volumes"], filter).await;
    // Also when a container was gone before it could be removed. An engine may go on believing that somebody is on a
    // network, and then keeps it until it is started anew: it is in nobody's way.
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

/// How the names of all projects begin.
const PREFIX: &str = "xero-tests-";

/// How long a test may take, with its containers' start and end.
pub const TEST_MAX: Duration = Duration::from_secs(300);

/// How often it is looked, a second apart, whether there is anything left: a start that goes on takes less time.
const SWEEPS_MAX: u32 = 30;
