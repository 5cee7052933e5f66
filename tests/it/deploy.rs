//! The files in `deploy`: valid, consistent with the program, and accepted by it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pocketquant::common::config::Settings;
use pocketquant::common::constants::{HEALTH_LIVENESS, HEALTH_READINESS, SHUTDOWN_GRACE};
use serde_json::Value;

use crate::processes::pocketquant;
use crate::python::{packages, python};

const COMPOSE: &str = "deploy/compose.yaml";
const DOCKERFILE: &str = "deploy/Dockerfile";

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(name: &str) -> String {
    std::fs::read_to_string(project().join(name)).unwrap()
}

/// Every manifest, the example too.
fn manifests() -> Vec<PathBuf> {
    let folders = ["deploy/kubernetes", "deploy/kubernetes/example"];
    let entries = folders.iter().flat_map(|folder| project().join(folder).read_dir().unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    let manifests: Vec<_> =
        paths.filter(|path| path.extension() == Some("yaml".as_ref())).collect();
    assert!(manifests.len() >= 4, "{manifests:?}");
    manifests
}

/// The documents of YAML files.
async fn documents(files: &[PathBuf]) -> Vec<Value> {
    const SCRIPT: &str = "import json, sys, yaml\n\
        print(json.dumps([each for name in sys.argv[1:] for each in yaml.safe_load_all(open(name))]))";
    let output = python("python3", None).args(["-c", SCRIPT]).args(files).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn is_valid_for_kubernetes(file: &Path) -> bool {
    let mut validate = python("python3", None);
    validate.arg(packages().join("bin/kubernetes-validate")).arg("--strict").arg(file);
    validate.status().await.unwrap().success()
}

#[tokio::test]
#[ignore = "needs Python packages: run scripts/test"]
async fn the_manifests_are_valid_for_kubernetes() {
    for manifest in manifests() {
        assert!(is_valid_for_kubernetes(&manifest).await, "{}", manifest.display());
    }
    let wrong = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    let feed = text("deploy/kubernetes/feed.yaml").replace("replicas: 1", "replica: 1");
    std::fs::write(wrong.path(), feed).unwrap();
    assert!(!is_valid_for_kubernetes(wrong.path()).await, "anything is valid");
}

#[tokio::test]
#[ignore = "needs Python packages: run scripts/test"]
async fn hadolint_finds_nothing_in_the_dockerfile() {
    let mut hadolint = python(packages().join("bin/hadolint"), None);
    let output = hadolint.arg(project().join(DOCKERFILE)).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// What a deployment sets, by name.
type Variables = BTreeMap<String, String>;

fn variables(of: &Value) -> Variables {
    let Value::Object(map) = of else { return Variables::new() };
    map.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// What Kubernetes gives the container of `workload`.
fn environment(workload: &Value, documents: &[Value]) -> Variables {
    let container = &workload["spec"]["template"]["spec"]["containers"][0];
    let mut all = Variables::new();
    for from in container["envFrom"].as_array().unwrap() {
        let is_map = !from["configMapRef"].is_null();
        let (kind, data, named) = if is_map {
            ("ConfigMap", "data", &from["configMapRef"])
        } else {
            ("Secret", "stringData", &from["secretRef"])
        };
        let source = documents.iter().find(|document| {
            document["kind"] == kind && document["metadata"]["name"] == named["name"]
        });
        all.extend(variables(&source.unwrap_or_else(|| panic!("no {kind} {named}"))[data]));
    }
    let own = container["env"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.extend(own.iter().map(|each| (text(&each["name"]), text(&each["value"]))));
    all
}

fn workloads(documents: &[Value]) -> Vec<&Value> {
    let runs = |document: &&Value| !document["spec"]["template"].is_null();
    let workloads: Vec<_> = documents.iter().filter(runs).collect();
    assert_eq!(workloads.len(), 2);
    workloads
}

/// The names in `${NAME}` and `${NAME:-default}`.
fn interpolated(text: &str) -> BTreeSet<&str> {
    let names = text.split("${").skip(1);
    names
        .map(|rest| rest.split(|c: char| !c.is_ascii_uppercase() && c != '_').next().unwrap())
        .collect()
}

/// What the image sets by itself.
fn of_image() -> Variables {
    let dockerfile = text(DOCKERFILE);
    let (_, after) = dockerfile.split_once("\nENV ").unwrap();
    let mut set = Variables::new();
    for line in after.lines() {
        let assignment = line.trim().trim_end_matches('\\').trim_end();
        let (name, value) = assignment.split_once('=').unwrap();
        set.insert(name.to_owned(), value.to_owned());
        if !line.ends_with('\\') {
            break;
        }
    }
    set
}

#[tokio::test]
#[ignore = "needs Python packages: run scripts/test"]
async fn every_variable_is_one_that_the_help_lists_and_its_value_is_accepted() {
    let help = pocketquant(&["serve", "--help"]).output().await.unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let listed: BTreeSet<&str> = help.split_whitespace().collect();
    let compose = documents(&[project().join(COMPOSE)]).await;
    let services = compose[0]["services"].as_object().unwrap();
    for service in services.values() {
        for name in variables(&service["environment"]).keys() {
            assert!(listed.contains(name.as_str()), "`{name}` is no setting");
        }
    }
    for name in interpolated(&text(COMPOSE)) {
        assert!(listed.contains(name), "`{name}` is no setting");
    }

    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("api_keys");
    let mut made =
        pocketquant(&["keys", "new", "--principal", "me", "--scopes", "admin", "--file"]);
    assert!(made.arg(&keys).output().await.unwrap().status.success());
    let manifests = documents(&manifests()).await;
    let pods = workloads(&manifests).into_iter().map(|each| environment(each, &manifests));
    for set in pods.chain([variables(&services["pocketquant"]["environment"])]) {
        let mut deployed = of_image();
        deployed.extend(set);
        for name in deployed.keys() {
            assert!(listed.contains(name.as_str()), "`{name}` is no setting");
        }
        let lookup = |name: &str| match name {
            "API_KEYS_FILE" => deployed.get(name).map(|_| keys.display().to_string()),
            _ => deployed.get(name).map(|value| in_effect(value).to_owned()),
        };
        Settings::from_lookup(lookup).unwrap_or_else(|mistakes| panic!("{deployed:?}: {mistakes}"));
    }
}

/// What compose makes of `value` where nothing is exported.
fn in_effect(value: &str) -> &str {
    value.split_once(":-").map_or(value, |(_, default)| default.trim_end_matches('}'))
}

#[tokio::test]
#[ignore = "needs Python packages: run scripts/test"]
async fn pods_are_probed_by_names_that_exist_and_have_time_to_stop() {
    let manifests = documents(&manifests()).await;
    for workload in workloads(&manifests) {
        let pod = &workload["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let service = |probe: &str| container[probe]["grpc"]["service"].as_str().unwrap();
        assert_eq!(service("startupProbe"), HEALTH_LIVENESS);
        assert_eq!(service("livenessProbe"), HEALTH_LIVENESS);
        assert_eq!(service("readinessProbe"), HEALTH_READINESS);
        let before = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(grace >= before + SHUTDOWN_GRACE.as_secs(), "{grace} s are too few");
        let set = environment(workload, &manifests);
        let follows = set["FEED_AUTOSTART"] == "true";
        assert!(!follows || workload["spec"]["replicas"] == 1, "more than one follows the market");
    }
}

#[test]
fn the_image_is_made_of_what_is_there_and_is_called_as_the_program() {
    let (dockerfile, ignore) = (text(DOCKERFILE), text(".dockerignore"));
    let copied = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|line| !line.starts_with("--"));
    let sources = copied.flat_map(|line| {
        let mut words: Vec<&str> = line.split(' ').collect();
        words.pop();
        words
    });
    let sources: BTreeSet<&str> = sources.collect();
    let allowed: BTreeSet<&str> =
        ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert_eq!(sources, allowed, "what is copied and what .dockerignore lets through");
    assert!(sources.iter().all(|source| project().join(source).exists()), "{sources:?}");

    let image = concat!("pocketquant:", env!("CARGO_PKG_VERSION"));
    for name in [COMPOSE, "deploy/kubernetes/feed.yaml", "deploy/kubernetes/api.yaml"] {
        assert!(text(name).contains(&format!("image: {image}\n")), "{name} names another version");
    }
}
