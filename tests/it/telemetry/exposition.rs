//! Reads Prometheus' text format strictly, as `promtool check metrics` does.

use std::collections::{BTreeMap, BTreeSet};

/// A metric of an answer.
#[derive(Clone, Debug, Default)]
pub struct Family {
    pub kind: String,
    pub help: String,
    pub samples: Vec<Sample>,
}

/// One line with a number.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// The metrics in `text`, by name; panics where it breaks a rule of the format.
pub fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            help.clone_into(&mut families.entry(name.to_owned()).or_default().help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            let family = families.entry(name.to_owned()).or_default();
            assert!(family.kind.is_empty() && family.samples.is_empty(), "TYPE again: {line}");
            kind.clone_into(&mut family.kind);
        } else {
            assert!(!line.starts_with('#'), "{line}");
            let sample = sample(line);
            assert!(seen.insert((sample.name.clone(), sample.labels.clone())), "twice: {line}");
            let family = family_of(&sample, &families);
            families.get_mut(&family).unwrap().samples.push(sample);
        }
    }
    for (name, family) in &families {
        lint(name, family);
    }
    families
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let value = if value == "+Inf" { f64::INFINITY } else { value.parse().unwrap() };
    let (name, labels) = match series.split_once('{') {
        None => (series, BTreeMap::new()),
        Some((name, labels)) => (name, labels_of(labels.strip_suffix('}').unwrap())),
    };
    assert!(is_name(name), "{line}");
    Sample { name: name.to_owned(), labels, value }
}

fn labels_of(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap();
        assert!(is_name(name), "{text}");
        let end = (0..rest.len())
            .find(|&at| rest[at..].starts_with('"') && !rest[..at].ends_with('\\'))
            .unwrap();
        assert!(labels.insert(name.to_owned(), rest[..end].to_owned()).is_none(), "{text}");
        text = rest[end + 1..].trim_start_matches(',');
    }
    labels
}

fn is_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(is_part) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// The family that a sample belongs to: a histogram's have names of their own.
fn family_of(sample: &Sample, families: &BTreeMap<String, Family>) -> String {
    for suffix in ["_bucket", "_sum", "_count"] {
        if let Some(name) = sample.name.strip_suffix(suffix)
            && families.get(name).is_some_and(|family| family.kind == "histogram")
        {
            return name.to_owned();
        }
    }
    assert!(families.contains_key(&sample.name), "no TYPE before {sample:?}");
    sample.name.clone()
}

/// What promtool's linter asks for.
fn lint(name: &str, family: &Family) {
    assert!(!family.help.is_empty(), "{name} has no HELP");
    assert!(!family.samples.is_empty(), "{name} has no samples");
    assert!(["counter", "gauge", "histogram"].contains(&family.kind.as_str()), "{name}");
    assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name}");
    for reserved in ["_count", "_sum", "_bucket", "_info_total", "_milliseconds", "_ms"] {
        assert!(!name.ends_with(reserved), "{name}");
    }
    assert!(name.chars().all(|c| !c.is_ascii_uppercase()), "{name}");
    if family.kind == "histogram" {
        lint_histogram(name, family);
    }
    if family.kind == "counter" {
        assert!(family.samples.iter().all(|sample| sample.value >= 0.0), "{name}");
    }
}

/// Buckets are cumulative and end with all.
fn lint_histogram(name: &str, family: &Family) {
    let mut series: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        match labels.remove("le") {
            Some(le) => {
                let le = if le == "+Inf" { f64::INFINITY } else { le.parse().unwrap() };
                series.entry(labels).or_default().push((le, sample.value));
            }
            None if sample.name.ends_with("_count") => {
                counts.insert(labels, sample.value);
            }
            None => assert!(sample.name.ends_with("_sum"), "{sample:?}"),
        }
    }
    assert_eq!(series.len(), counts.len(), "{name}");
    for (labels, buckets) in series {
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name} {labels:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, counts[&labels])), "{name} {labels:?}");
    }
}

#[test]
fn what_breaks_the_format_is_refused() {
    let good = "# HELP a_total a\n# TYPE a_total counter\na_total{x=\"1\"} 2\n";
    assert_eq!(parse(good)["a_total"].samples[0].value, 2.0);
    for bad in [
        "a_total 1\n",
        "# TYPE a_total counter\na_total 1\n",
        "# HELP a a\n# TYPE a counter\na 1\n",
        "# HELP a_total a\n# TYPE a_total counter\na_total 1\na_total 1\n",
        "# HELP a_total a\n# TYPE a_total counter\na_total{x-y=\"1\"} 1\n",
        "# HELP a a\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 2\n",
    ] {
        assert!(std::panic::catch_unwind(|| parse(bad)).is_err(), "{bad}");
    }
}
