//! One container: the actions on it, and its output.

use std::{fs, ops::Range, path::Path, process::Stdio};

use serde_json::Value;
use tokio::process::{Child, Command};

use super::engine::{docker, must};
use crate::{
    load::{
        ledger::End,
        record::{Record, micros_now},
    },
    scene::eventually,
};

/// One container of a stack.
#[derive(Clone, Debug)]
pub struct Container {
    id: String,
    /// Compose's name for it: its service and a number.
    pub name: String,
}

/// The direction of a filter's packets, seen from the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Incoming packets.
    In,
    /// Outgoing packets.
    Out,
}

impl Container {
    /// The container with that id.
    ///
    /// # Errors
    /// When the engine knows none.
    pub async fn of(id: &str) -> Result<Self, String> {
        let label = |label| format!("{{{{index .Config.Labels \"com.docker.compose.{label}\"}}}}");
        let format = format!("{}.{}", label("service"), label("container-number"));
        let name = docker(&["inspect", "--format", &format, id]).await?;
        Ok(Self { id: id.to_owned(), name: name.trim().to_owned() })
    }

    /// Kills it at once, with a signal that it cannot handle. Returns the start and end of the action, in microseconds
    /// since 1970, like all actions here.
    pub async fn kill(&self) -> Range<u64> {
        self.act(&["kill"]).await
    }

    /// Asks it to leave, and waits until it has.
    pub async fn stop(&self) -> Range<u64> {
        let time = self.act(&["stop", "-t", "40"]).await;
        assert_eq!(self.exit_code().await, 0, "{} was asked to leave and has not left well", self.name);
        time
    }

    /// Starts it again.
    pub async fn start(&self) -> Range<u64> {
        self.act(&["start"]).await
    }

    /// Freezes it: it keeps its connections and does nothing.
    pub async fn pause(&self) -> Range<u64> {
        self.act(&["pause"]).await
    }

    /// Unfreezes it.
    pub async fn unpause(&self) -> Range<u64> {
        self.act(&["unpause"]).await
    }

    /// Removes it from that network: its address is gone, and no packet announces that.
    pub async fn disconnect(&self, network: &str) -> Range<u64> {
        timed(docker(&["network", "disconnect", network, &self.id])).await
    }

    /// Adds it to that network, under the name of its service.
    pub async fn connect(&self, network: &str) -> Range<u64> {
        timed(docker(&["network", "connect", "--alias", self.service(), network, &self.id])).await
    }

    /// Drops this percentage of packets in one direction, except those within the container.
    ///
    /// A packet filter in its network does it, so that nothing else is affected.
    pub async fn lose(&self, percent: u8, way: Way) -> Range<u64> {
        let (hook, interface) = match way {
            Way::In => ("input", "iifname"),
            Way::Out => ("output", "oifname"),
        };
        let chain = format!("{hook} {{ type filter hook {hook} priority 0; }}");
        let lost = if percent < 100 { format!("numgen random mod 100 < {percent}") } else { String::new() };
        let rule = format!(
            "add table {TABLE}; add chain {TABLE} {chain}; \
             add rule {TABLE} {hook} {interface} != \"lo\" {lost} counter drop"
        );
        timed(self.filter(&[&rule])).await
    }

    /// Lets all packets pass again; returns how many were dropped.
    pub async fn lose_no_more(&self) -> u64 {
        let rules = must(self.filter(&["-j", &format!("list table {TABLE}")]).await);
        // The engine has its own rules there, which look up names.
        must(self.filter(&[&format!("delete table {TABLE}")]).await);
        dropped(&rules).unwrap_or_else(|| panic!("no rule has counted: {rules}"))
    }

    /// The service that it belongs to.
    pub fn service(&self) -> &str {
        self.name.split('.').next().unwrap_or(&self.name)
    }

    /// Its addresses on those networks.
    pub async fn addresses(&self, networks: &[String]) -> Vec<String> {
        let address = |network| format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        let format: Vec<_> = networks.iter().map(address).collect();
        self.inspect(&format.join(" ")).await.split(' ').map(str::to_owned).collect()
    }

    /// Waits until its health check reports that: `healthy` or `unhealthy`.
    pub async fn is_found(&self, health: &str) {
        let is_found = async || self.inspect("{{.State.Health.Status}}").await == health;
        eventually(&format!("{} is {health}", self.name), is_found).await;
    }

    /// Its exit code, once it has ended.
    pub async fn exit_code(&self) -> i32 {
        self.inspect("{{.State.ExitCode}}").await.parse().expect("an exit code is a number")
    }

    /// Waits until it reports that many workers, or brokers if it is a client. Earlier reports do not count: they may
    /// be from the life before.
    pub async fn has_workers(&self, count: usize) {
        let since = micros_now();
        let is_it = |record| matches!(record, Record::Workers { at, ids } if at > since && ids.len() == count);
        let has = async || Record::all_in(&self.said(&["--tail", NEWEST]).await).any(is_it);
        eventually(&format!("{} has {count} workers", self.name), has).await;
    }

    /// Waits until a call that it starts from now on has a reply.
    pub async fn has_replies(&self) {
        let since = micros_now();
        let is_reply =
            |record| matches!(record, Record::Ended { at, took, end: End::Replied { .. }, .. } if at - took > since);
        let has = async || Record::all_in(&self.said(&["--tail", NEWEST]).await).any(is_reply);
        eventually(&format!("{} gets replies", self.name), has).await;
    }

    /// Its standard output so far.
    pub async fn output(&self) -> String {
        self.said(&[]).await
    }

    /// Its standard error so far.
    pub async fn errors(&self) -> String {
        let mut command = Command::new("docker");
        let output = command.args(["logs", &self.id]).stdin(Stdio::null()).output().await;
        String::from_utf8_lossy(&output.expect("docker can be run").stderr).into_owned()
    }

    /// Writes all its output to a file.
    pub async fn save(&self, path: &Path) {
        let file = fs::File::create(path).expect("the log's file can be written");
        let errors = file.try_clone().expect("the file stays open");
        let mut command = Command::new("docker");
        command.args(["logs", "--timestamps", &self.id]).stdin(Stdio::null()).stdout(file).stderr(errors);
        let _ = command.status().await;
    }

    /// Keeps its log in a file from now on, even after its removal.
    pub fn follow(&self, path: &Path) -> Child {
        let file = fs::File::create(path).expect("the log's file can be written");
        let errors = fs::File::create(path.with_extension("errors.log")).expect("the log's file can be written");
        let mut command = Command::new("docker");
        command.args(["logs", "--follow", &self.id]).stdin(Stdio::null()).stdout(file).stderr(errors);
        command.kill_on_drop(true).spawn().expect("docker can be run")
    }

    async fn said(&self, options: &[&str]) -> String {
        must(docker(&[&["logs"], options, &[&self.id]].concat()).await)
    }

    async fn inspect(&self, format: &str) -> String {
        must(docker(&["inspect", "--format", format, &self.id]).await).trim().to_owned()
    }

    async fn act(&self, verb: &[&str]) -> Range<u64> {
        timed(docker(&[verb, &[&self.id]].concat())).await
    }

    async fn filter(&self, arguments: &[&str]) -> Result<String, String> {
        let network = format!("container:{}", self.id);
        let run = ["run", "--rm", "--network", &network, "--cap-drop", "ALL", "--cap-add", "NET_ADMIN", FAULTS];
        docker(&[&run, arguments].concat()).await
    }
}

/// The packets that a rule has counted, in the output of `nft -j list table`.
fn dropped(rules: &str) -> Option<u64> {
    let rules: Value = serde_json::from_str(rules).ok()?;
    let expressions =
        rules.get("nftables")?.as_array()?.iter().filter_map(|entry| entry.get("rule")?.get("expr")?.as_array());
    let counts: Vec<_> =
        expressions.flatten().filter_map(|expression| expression.get("counter")?.get("packets")?.as_u64()).collect();
    (!counts.is_empty()).then(|| counts.iter().sum())
}

/// The start and end of an action, which must succeed.
async fn timed(deed: impl Future<Output = Result<String, String>>) -> Range<u64> {
    let from = micros_now();
    must(deed.await);
    from..micros_now()
}

/// Lines enough for more than a second of output, in which everything asked for is reported once.
const NEWEST: &str = "4000";

/// Our own table of rules.
const TABLE: &str = "inet faults";

/// The image with the packet filter.
const FAULTS: &str = "xero-tests-faults";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_that_were_dropped_are_counted_over_all_rules() {
        let rule = |packets: u64| {
            format!(
                r#"{{"rule": {{"expr": [{{"match": {{}}}}, {{"counter": {{"packets": {packets}, "bytes": 1}}}}, {{"drop": null}}]}}}}"#
            )
        };
        let rules = format!(r#"{{"nftables": [{{"metainfo": {{}}}}, {}, {}]}}"#, rule(3), rule(4));
        assert_eq!(dropped(&rules), Some(7));
        assert_eq!(dropped(r#"{"nftables": []}"#), None);
        assert_eq!(dropped("what is this"), None);
    }
}
