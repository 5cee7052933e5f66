//! The layering, as a test: which modules each layer may name, over every path in its source.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

struct Layer {
    dir: &'static str,
    /// Modules of this crate it may name.
    inner: &'static [&'static str],
    /// Paths outside this crate it may name; `None` for any.
    outer: Option<&'static [&'static str]>,
}

const LAYERS: &[Layer] = &[
    Layer {
        dir: "domain",
        inner: &["domain"],
        outer: Some(&[
            "std::array",
            "std::borrow",
            "std::cmp",
            "std::collections",
            "std::error",
            "std::fmt",
            "std::hash",
            "std::iter",
            "std::mem",
            "std::num",
            "std::ops",
            "std::str",
            "std::sync::Arc",
            "std::sync::LazyLock",
            "std::time::Duration",
            "jiff",
            "thiserror",
        ]),
    },
    Layer { dir: "common", inner: &["common"], outer: None },
    Layer { dir: "infrastructure", inner: &["infrastructure", "common", "domain"], outer: None },
    Layer {
        dir: "features",
        inner: &["features", "infrastructure", "common", "domain", "proto"],
        outer: None,
    },
    // Never the client that it is tested against: it would share the client's mistakes.
    Layer { dir: "simulator", inner: &["simulator", "domain"], outer: None },
];

/// Calls that read the clock or the machine, or roll dice: the caller passes those in.
const IMPURE: &[&str] = &["now", "now_v7", "new_v4", "elapsed", "system", "try_system", "random"];

/// What may stand before `::` and is no module: `f64::is_finite`.
const PRIMITIVES: &[&str] = &[
    "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "str", "u8", "u16",
    "u32", "u64", "u128", "usize",
];

#[test]
fn each_layer_names_only_what_it_may() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let violations: Vec<String> = LAYERS
        .iter()
        .flat_map(|layer| {
            rust_files(&src.join(layer.dir)).into_iter().map(move |file| (layer, file))
        })
        .flat_map(|(layer, file)| {
            let source = fs::read_to_string(&file).unwrap();
            violations(layer, &source, file.strip_prefix(&src).unwrap())
        })
        .collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn each_layer_that_exists_is_scanned() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for dir in ["domain", "common", "infrastructure", "simulator"] {
        assert!(!rust_files(&src.join(dir)).is_empty(), "{dir}");
    }
}

#[test]
fn planted_violations_are_found() {
    let planted = [
        ("domain", "use crate::infrastructure::x;", 1),
        ("domain", "use std::{fs, fmt};", 1),
        ("domain", "fn f() { tokio::spawn(async {}); }", 2),
        ("domain", "fn f() { let _ = jiff::Timestamp::now(); }", 1),
        ("domain", "fn f() { let _ = Zoned::now(); start.elapsed(); }", 2),
        ("domain", "fn f() { println!(\"{}\", std::env::args().count()); }", 1),
        ("domain", "fn f() { super::super::super::infrastructure::g(); }", 1),
        ("domain", "mod inner { fn f() { super::super::super::super::common::g(); } }", 1),
        ("domain", "impl crate::common::X for Y {}", 1),
        ("domain", "fn f(x: rand::rngs::ThreadRng) {}", 1),
        ("common", "use crate::proto::v1;", 1),
        ("common", "use crate::domain::shared::Symbol;", 1),
        ("infrastructure", "use crate::features::market_data;", 1),
        ("infrastructure", "use crate::simulator::Simulator;", 1),
        ("features", "use crate::app::App;", 1),
        ("simulator", "use crate::infrastructure::tradingview::frame;", 1),
        ("simulator", "fn f() { crate::infrastructure::tradingview::frame::encode(); }", 1),
        ("simulator", "fn f() { assert_eq!(crate::common::x(), 1); }", 1),
    ];
    for (dir, source, expected) in planted {
        let layer = LAYERS.iter().find(|layer| layer.dir == dir).unwrap();
        let found = violations(layer, source, &Path::new(dir).join("shared/planted.rs"));
        assert_eq!(found.len(), expected, "{dir}: {source}: {found:?}");
    }
}

#[test]
fn what_is_allowed_is_not_reported() {
    let allowed = [
        ("domain", "use jiff::{Timestamp, tz::TimeZone}; use std::fmt; impl fmt::Display for X {}"),
        ("domain", "use super::Symbol; fn f() { super::g(); self::h(); crate::domain::i(); }"),
        ("domain", "#[cfg(test)] mod tests { use proptest::prelude::*; }"),
        ("common", "use tonic::Status; fn f() { crate::common::error::g(); }"),
        ("features", "use crate::{proto::v1, infrastructure::persistence::Database};"),
        ("simulator", "use crate::domain::shared::Symbol; use tokio::net::TcpListener;"),
    ];
    for (dir, source) in allowed {
        let layer = LAYERS.iter().find(|layer| layer.dir == dir).unwrap();
        let found = violations(layer, source, &Path::new(dir).join("shared/fine.rs"));
        assert!(found.is_empty(), "{dir}: {source}: {found:?}");
    }
}

/// What `source`, the file `file` below `src`, names and may not.
fn violations(layer: &Layer, source: &str, file: &Path) -> Vec<String> {
    let mut scan = Scan { module: module_of(file), ..Scan::default() };
    scan.visit_file(&syn::parse_file(source).unwrap());
    let bound = &scan.bound;
    scan.paths
        .iter()
        .filter(|path| !bound.contains(&path[0]))
        .filter(|path| !layer.allows(path))
        .map(|path| path.join("::"))
        .chain(layer.outer.is_some().then_some(scan.impure.clone()).into_iter().flatten())
        .map(|what| format!("{}: `{what}`", file.display()))
        .collect()
}

/// The module that `file` holds: `domain/shared/mod.rs` is `domain::shared`.
fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<String> =
        file.with_extension("").iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    if module.last().is_some_and(|name| name == "mod") {
        module.pop();
    }
    module
}

impl Layer {
    fn allows(&self, path: &[String]) -> bool {
        if path[0] == "crate" {
            return path.get(1).is_some_and(|module| self.inner.contains(&module.as_str()));
        }
        self.outer.is_none_or(|outer| {
            let path = path.join("::");
            outer.iter().any(|prefix| path == *prefix || path.starts_with(&format!("{prefix}::")))
        })
    }
}

#[derive(Default)]
struct Scan {
    module: Vec<String>,
    /// Absolute: `crate::...` or a crate's name.
    paths: Vec<Vec<String>>,
    /// Names the file itself binds, by `use` or `mod`; a path that starts with one was checked there.
    bound: HashSet<String>,
    impure: Vec<String>,
}

impl<'ast> Visit<'ast> for Scan {
    fn visit_use_tree(&mut self, tree: &'ast syn::UseTree) {
        self.flatten(tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.name(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        let tokens = invocation.tokens.to_string().replace(" :: ", "::").replace(":: ", "::");
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        for word in tokens.split(|c| !is_part(c)).filter(|word| word.contains("::")) {
            self.name(word.trim_matches(':').split("::").map(str::to_owned).collect());
        }
        visit::visit_macro(self, invocation);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if IMPURE.contains(&call.method.to_string().as_str()) {
            self.impure.push(format!(".{}()", call.method));
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        self.impure.push("async {}".to_owned());
        visit::visit_expr_async(self, block);
    }

    fn visit_expr_await(&mut self, expr: &'ast syn::ExprAwait) {
        self.impure.push(".await".to_owned());
        visit::visit_expr_await(self, expr);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if signature.asyncness.is_some() {
            self.impure.push(format!("async fn {}", signature.ident));
        }
        visit::visit_signature(self, signature);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.bound.insert(item.ident.to_string());
        if item.attrs.iter().any(is_test_only) {
            return;
        }
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }
}

fn is_test_only(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
}

impl Scan {
    /// Notes a path that the file names, as a whole.
    fn name(&mut self, names: Vec<String>) {
        if names.last().is_some_and(|name| IMPURE.contains(&name.as_str())) && names.len() > 1 {
            self.impure.push(names.join("::"));
        }
        // One segment is local; one that starts upper case is a type's own item.
        let of_module =
            names[0].starts_with(char::is_lowercase) && !PRIMITIVES.contains(&names[0].as_str());
        if names.len() > 1 && of_module {
            self.paths.push(self.absolute(names));
        }
    }

    /// `self::` and `super::` as what they stand for.
    fn absolute(&self, names: Vec<String>) -> Vec<String> {
        if names[0] != "self" && names[0] != "super" {
            return names;
        }
        let rest = names.iter().skip_while(|name| *name == "self" || *name == "super");
        let ups = names.iter().filter(|name| *name == "super").count();
        let stay = self.module.len().saturating_sub(ups);
        let module = self.module.iter().take(stay);
        std::iter::once("crate".to_owned()).chain(module.chain(rest).cloned()).collect()
    }

    fn flatten(&mut self, tree: &syn::UseTree, prefix: &[String]) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.flatten(&path.tree, &with(&path.ident)),
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.flatten(item, prefix));
            }
            syn::UseTree::Glob(_) => self.paths.push(self.absolute(prefix.to_vec())),
            syn::UseTree::Name(name) => self.bind(&name.ident, &name.ident, prefix),
            syn::UseTree::Rename(rename) => self.bind(&rename.ident, &rename.rename, prefix),
        }
    }

    fn bind(&mut self, name: &syn::Ident, alias: &syn::Ident, prefix: &[String]) {
        let whole = name == "self";
        let last =
            if whole { prefix.last().cloned().unwrap_or_default() } else { alias.to_string() };
        // `use x::y as crate_name` must not hide what it renames: the path itself is checked.
        let path = if whole { prefix.to_vec() } else { [prefix, &[name.to_string()]].concat() };
        self.paths.push(self.absolute(path));
        self.bound.insert(last);
    }
}

/// Every source file below `dir` but those for tests alone, which are named so.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let (dirs, files): (Vec<PathBuf>, Vec<PathBuf>) = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap();
            name != "tests" && !name.ends_with("_tests")
        })
        .partition(|path| path.is_dir());
    let here = files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    here.chain(dirs.iter().flat_map(|dir| rust_files(dir))).collect()
}
