//! The dashboard and the alerts name nothing that is not exported.

use std::collections::BTreeSet;
use std::path::Path;

use pocketquant::common::metrics::{Kind, METRICS};

use super::exposition::{Sample, parse};
use super::metrics::{self, settings};
use crate::processes::Server;
use crate::support::{TestSimulator, demo_data};

/// What may stand in an expression besides metrics and their labels: `PromQL`, and what Prometheus
/// itself adds.
const WORDS: [&str; 25] = [
    "sum",
    "max",
    "min",
    "avg",
    "count",
    "rate",
    "increase",
    "changes",
    "histogram_quantile",
    "time",
    "clamp_min",
    "absent",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "and",
    "or",
    "unless",
    "for",
    "le",
    "job",
    "instance",
    "up",
];

#[test]
fn the_dashboard_shows_only_what_is_exported() {
    let text = document("deploy/grafana/pocketquant.json");
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let charts = panels.iter().filter(|panel| panel["type"] != "row");
    let targets = charts.map(|panel| {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{}", panel["title"]);
        targets
    });
    let shown = checked(targets.flatten().map(|target| target["expr"].as_str().unwrap()));
    // And nothing that is exported is forgotten there but what others show better.
    let missing: Vec<_> =
        METRICS.iter().map(|metric| metric.name).filter(|name| !shown.contains(*name)).collect();
    assert_eq!(
        missing,
        [
            "pocketquant_queue_capacity",
            "pocketquant_runtime_workers",
            "process_virtual_memory_bytes",
        ]
    );
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
}

#[test]
fn alerts_look_only_at_what_is_exported() {
    let text = document("deploy/prometheus/alerts.yaml");
    let values = |key: &str| -> Vec<String> {
        let lines = text.lines().map(|line| line.trim().trim_start_matches("- "));
        let values = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        values.map(str::to_owned).collect()
    };
    let (alerts, expressions) = (values("alert"), values("expr"));
    assert!(alerts.len() >= 8, "{alerts:?}");
    for key in ["expr", "for", "severity", "summary", "description"] {
        assert_eq!(values(key).len(), alerts.len(), "each alert has one line `{key}`");
    }
    checked(expressions.iter().map(String::as_str));
}

#[test]
fn a_name_that_is_not_exported_is_found() {
    for expression in ["rate(pocketquant_nothing_total[5m])", "pocketquant_syncs", "foo(up)"] {
        assert!(std::panic::catch_unwind(|| checked([expression])).is_err(), "{expression}");
    }
    checked([
        "sum by (method) (rate(pocketquant_rpc_duration_seconds_bucket{code!=\"x\"}[5m])) > 1e3",
    ]);
}

/// Counted as they come, by labels that nobody knows before; what looks at them compares rates
/// with more than nothing, which one lost event does not change.
const AS_THEY_COME: [&str; 4] = [
    "pocketquant_rpc_requests_total",
    "pocketquant_rpc_duration_seconds_bucket",
    "pocketquant_database_operations_total",
    "pocketquant_cache_operations_total",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_series_that_an_alert_looks_at_is_there_from_the_start() {
    let simulator = TestSimulator::start(demo_data()).await;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &settings(&simulator)).await;
    let families = parse(&metrics::exported(&server).await);
    let text = document("deploy/prometheus/alerts.yaml");
    let expressions = text.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let looked_at: Vec<_> = expressions.flat_map(series).collect();
    assert!(looked_at.len() > 15, "{looked_at:?}");
    for (metric, label, value) in looked_at {
        if AS_THEY_COME.contains(&metric.as_str()) {
            continue;
        }
        let family = families.get(&metric).unwrap_or_else(|| panic!("no {metric}"));
        // Prometheus adds the job.
        let is_it = |sample: &Sample| {
            ["", "job"].contains(&label.as_str()) || sample.labels.get(&label) == Some(&value)
        };
        assert!(family.samples.iter().any(is_it), "no {metric} of {value}");
    }
}

#[test]
fn series_are_found_in_expressions() {
    let found = series(r#"rate(process_a{job="x"}[5m]) > pocketquant_b{c=~"d|e"} / pocketquant_f"#);
    let found: Vec<String> =
        found.into_iter().map(|(metric, label, value)| [metric, label, value].join(" ")).collect();
    let expected = ["process_a job x", "pocketquant_b c d", "pocketquant_b c e", "pocketquant_f  "];
    assert_eq!(found, expected);
}

/// Each series of ours that `expression` names: its metric, and a label and its value where one is
/// asked for.
fn series(expression: &str) -> Vec<(String, String, String)> {
    let starts = ["pocketquant_", "process_"].map(|start| expression.match_indices(start));
    let mut starts: Vec<usize> = starts.into_iter().flatten().map(|(start, _)| start).collect();
    starts.sort_unstable();
    starts.into_iter().flat_map(|start| of(&expression[start..])).collect()
}

/// The series that the selector at the beginning of `text` names.
fn of(text: &str) -> Vec<(String, String, String)> {
    let end = text.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(text.len());
    let (metric, rest) = text.split_at(end);
    let matcher = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
    let Some((matcher, _)) = matcher else {
        return vec![(metric.to_owned(), String::new(), String::new())];
    };
    let (label, values) = matcher.split_once('=').unwrap();
    let values = values.trim_start_matches('~').trim_matches('"').split('|');
    values.map(|value| (metric.to_owned(), label.to_owned(), value.to_owned())).collect()
}

/// The metrics that `expressions` name; panics at a word that is none.
fn checked<'a>(expressions: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'static str> {
    let mut named = BTreeSet::new();
    for expression in expressions {
        for word in words(expression) {
            if let Some(metric) = exported(&word) {
                named.insert(metric);
            } else {
                let is_label = METRICS.iter().any(|m| m.labels.contains(&word.as_str()));
                let is_known = is_label || WORDS.contains(&word.as_str());
                assert!(is_known, "`{word}` is not exported: {expression}");
            }
        }
    }
    named
}

/// The metric that has a series called `word`.
fn exported(word: &str) -> Option<&'static str> {
    let metric = METRICS.iter().find(|metric| match metric.kind {
        Kind::Counter | Kind::Gauge => metric.name == word,
        Kind::Histogram => word
            .strip_prefix(metric.name)
            .is_some_and(|suffix| ["_bucket", "_sum", "_count"].contains(&suffix)),
    });
    metric.map(|metric| metric.name)
}

/// Every name in a `PromQL` expression: neither strings nor numbers nor durations.
fn words(expression: &str) -> Vec<String> {
    let outside_strings: String = expression.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let mut plain = String::new();
    let mut depth = 0;
    for c in outside_strings.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    let words = plain.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()))
        .map(str::to_owned)
        .collect()
}

fn document(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}
