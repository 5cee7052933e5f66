//! Log lines as log stores read them: one JSON object each, with fields of one list.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pocketquant::common::tracing::LOG_FIELDS;
use syn::visit::{self, Visit};
use tempfile::TempDir;

use super::collector::Collector;
use super::metrics::busy;
use crate::engines::Engine;

/// What the format itself adds.
const FORMAT: [&str; 7] =
    ["timestamp", "level", "target", "message", "spans", "correlation_id", "trace_id"];

#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_one_json_object_with_known_fields() {
    let (folder, collector) = (TempDir::new().unwrap(), Collector::start().await);
    let server = busy(Engine::Embedded, folder.path(), &collector).await;
    let log = std::sync::Arc::clone(&server.log);
    assert_eq!(server.terminate().await, Some(0));
    let lines = log.lock().unwrap().clone();
    assert!(lines.len() > 5, "{lines:#?}");
    only_known_fields(&lines);
}

/// Each line is a JSON object whose fields are all in the lists.
pub fn only_known_fields(lines: &[String]) {
    for line in lines {
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        let fields = line.as_object().unwrap();
        for name in ["timestamp", "level", "target", "message"] {
            assert!(fields.contains_key(name), "no {name}: {line}");
        }
        let spans = line["spans"].as_array().into_iter().flatten();
        let in_spans = spans.flat_map(|span| span.as_object().unwrap().keys());
        for name in fields.keys().chain(in_spans.filter(|name| *name != "name")) {
            let is_known = FORMAT.contains(&name.as_str()) || LOG_FIELDS.contains(&name.as_str());
            assert!(is_known, "`{name}` is in no list: {line}");
        }
    }
}

#[test]
fn every_field_in_the_source_is_in_the_list_and_no_other() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    // The access log's line is put together by a macro of its own.
    let mut used = BTreeSet::from(["code".to_owned(), "method".to_owned()]);
    for path in sources(&src) {
        // The names of trace attributes are OpenTelemetry's.
        if !path.ends_with("tracing/spans.rs") {
            let file = syn::parse_file(&std::fs::read_to_string(path).unwrap()).unwrap();
            let mut fields = Fields(BTreeSet::new());
            fields.visit_file(&file);
            used.extend(fields.0);
        }
    }
    let listed: BTreeSet<String> = LOG_FIELDS.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(used, listed, "LOG_FIELDS is to list what the log lines name");
    assert!(LOG_FIELDS.is_sorted());
}

#[test]
fn fields_are_found_however_they_are_written() {
    let source = r#"fn f() {
        info!(a, %b, c = 1, d.e = ?x, error = with(a, b), "text {g}, {h}", g);
        tracing::warn!(parent: &span, i = 1, "x");
        info_span!("call", j = k, l = Empty);
        println!("{}", m);
        debug!("only text {}", n);
    }"#;
    let mut fields = Fields(BTreeSet::new());
    fields.visit_file(&syn::parse_file(source).unwrap());
    let found: Vec<&str> = fields.0.iter().map(String::as_str).collect();
    assert_eq!(found, ["a", "b", "c", "d.e", "error", "i", "j", "l"]);
}

/// Every source file below `dir`, but those of tests alone.
pub fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries
        .filter(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap();
            name != "tests" && !name.ends_with("_tests")
        })
        .partition(|path| path.is_dir());
    files.into_iter().chain(dirs.iter().flat_map(|dir| sources(dir))).collect()
}

/// The names of the fields of log lines and spans.
struct Fields(BTreeSet<String>);

impl<'ast> Visit<'ast> for Fields {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.ident != "tests" {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        const MACROS: [&str; 10] = [
            "trace",
            "debug",
            "info",
            "warn",
            "error",
            "trace_span",
            "debug_span",
            "info_span",
            "warn_span",
            "error_span",
        ];
        let name = invocation.path.segments.last().unwrap().ident.to_string();
        if MACROS.contains(&name.as_str()) {
            self.take(invocation);
        }
    }
}

impl Fields {
    /// Fields stand before the message, or all behind a span's name.
    fn take(&mut self, invocation: &syn::Macro) {
        let mut parts = vec![Vec::new()];
        for token in invocation.tokens.clone() {
            match token.to_string() {
                comma if comma == "," => parts.push(Vec::new()),
                other => parts.last_mut().unwrap().push(other),
            }
        }
        let is_span = invocation.path.segments.last().unwrap().ident.to_string().ends_with("_span");
        for part in parts {
            match part.first() {
                Some(text) if text.starts_with('"') && is_span => {}
                Some(text) if text.starts_with('"') => return,
                Some(_) => self.note(&part),
                None => {}
            }
        }
    }

    fn note(&mut self, part: &[String]) {
        let name: String = part.iter().take_while(|token| *token != "=").cloned().collect();
        let name = name.trim_start_matches(['%', '?']);
        // `target: x`, `parent: x` and macros' own placeholders are no fields.
        if !name.contains([':', '$', '(']) {
            self.0.insert(name.to_owned());
        }
    }
}
