//! The manifests as data.

use std::{fs, path::PathBuf};

use serde_json::Value;

/// What `deploy/kubernetes/kustomization.yaml` lists.
pub(crate) struct Set {
    pub(crate) kustomization: Value,
    resources: Vec<Value>,
}

/// A workload that runs pods, and its template.
#[derive(Debug)]
pub(crate) struct Workload<'a> {
    pub(crate) resource: &'a Value,
    pub(crate) labels: &'a Value,
    pub(crate) pod: &'a Value,
}

impl Set {
    pub(crate) fn read() -> Self {
        let [kustomization] = &documents("kustomization.yaml")[..] else { panic!("one document") };
        let resources = texts(&kustomization["resources"]).flat_map(documents).collect();
        Self { kustomization: kustomization.clone(), resources }
    }

    pub(crate) fn namespace(&self) -> &str {
        self.kustomization["namespace"].as_str().expect("a namespace")
    }

    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.resources.iter().filter(move |resource| resource["kind"] == kind)
    }

    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        self.of_kind(kind).find(|resource| resource["metadata"]["name"] == name)
    }

    pub(crate) fn named(&self, kind: &str, name: &str) -> &Value {
        self.find(kind, name).unwrap_or_else(|| panic!("there is no {kind}/{name}"))
    }

    pub(crate) fn workloads(&self) -> Vec<Workload<'_>> {
        let with_pods = self.resources.iter().filter(|resource| resource["spec"]["template"].is_object());
        with_pods.map(Workload::new).collect()
    }

    pub(crate) fn workload(&self, name: &str) -> Workload<'_> {
        self.workloads().into_iter().find(|workload| workload.name() == name).expect("a workload of this name")
    }

    /// The names of the workloads whose pods have all of these labels; at least one.
    pub(crate) fn selected(&self, wanted: &Value) -> Vec<&str> {
        assert!(wanted.as_object().is_some_and(|wanted| !wanted.is_empty()), "no selector: {wanted}");
        let workloads = self.workloads().into_iter().filter(|workload| has(workload.labels, wanted));
        workloads.map(|workload| workload.name()).collect()
    }
}

impl<'a> Workload<'a> {
    fn new(resource: &'a Value) -> Self {
        let template = &resource["spec"]["template"];
        Self { resource, labels: &template["metadata"]["labels"], pod: &template["spec"] }
    }

    pub(crate) fn name(&self) -> &'a str {
        self.resource["metadata"]["name"].as_str().expect("a name")
    }

    pub(crate) fn kind(&self) -> &'a str {
        self.resource["kind"].as_str().expect("a kind")
    }

    pub(crate) fn shown(&self) -> String {
        format!("{}/{}", self.kind(), self.name())
    }

    pub(crate) fn container(&self) -> &'a Value {
        let [container] = &self.pod["containers"].as_array().expect("containers")[..] else { panic!("one container") };
        container
    }
}

/// Whether all of the wanted labels are there.
pub(crate) fn has(labels: &Value, wanted: &Value) -> bool {
    wanted.as_object().is_none_or(|wanted| wanted.iter().all(|(name, value)| labels[name] == *value))
}

/// The texts of a list that has nothing else.
pub(crate) fn texts(list: &Value) -> impl Iterator<Item = &str> {
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    list.iter().map(|text| text.as_str().unwrap_or_else(|| panic!("no text: {text}")))
}

pub(crate) fn folder() -> PathBuf {
    root().join("deploy/kubernetes")
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn documents(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}
