//! What the documentation says, held against the code that it is about.

use std::fs;
use std::path::Path;

use pocketquant::app::access_table;
use pocketquant::common::config::readme_table;
use pocketquant::common::error::error_table;
use pocketquant::common::metrics::metrics_table;

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn the_tables_of_errors_and_metrics_are_the_ones_the_code_prints() {
    for (name, printed) in [("docs/errors.md", error_table()), ("docs/metrics.md", metrics_table())]
    {
        let documented: String = document(name)
            .lines()
            .filter(|line| line.starts_with('|'))
            .flat_map(|line| [line, "\n"])
            .collect();
        assert_eq!(documented, printed, "{name} should hold this table:\n{printed}");
    }
}

#[test]
fn the_access_table_is_the_one_the_code_prints() {
    let printed = access_table();
    let documented: String = document("docs/access.md")
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(documented, printed, "docs/access.md should hold this table:\n{printed}");
}

#[test]
fn the_readmes_settings_are_the_ones_the_code_reads() {
    let printed = readme_table();
    let readme = document("README.md");
    let (_, rest) = readme.split_once("<!-- settings -->\n").unwrap();
    let (documented, _) = rest.split_once("<!-- /settings -->").unwrap();
    assert_eq!(documented.trim(), printed.trim(), "README.md should hold this table:\n{printed}");
}

#[test]
fn the_operations_page_says_what_to_do_about_every_alert_and_error_of_the_provider() {
    let page = document("docs/operations.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let alerts = document("deploy/prometheus/alerts.yaml");
    let alerts: Vec<&str> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let errors = error_table();
    let errors: Vec<&str> =
        errors.split('`').filter(|name| name.starts_with("PROVIDER_")).collect();
    assert!(alerts.len() >= 8 && errors.len() >= 6, "{alerts:?} {errors:?}");
    for name in alerts.iter().chain(&errors) {
        let row = format!("| `{name}` | ");
        assert!(rows.iter().any(|each| each.starts_with(&row)), "no row for `{name}`");
    }
}

#[test]
fn every_promise_names_tests_that_exist() {
    let sources = ["tests/it", "src"]
        .map(|folder| sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)));
    let sources: Vec<(String, String)> = sources.into_iter().flatten().collect();
    let document = document("docs/promises.md");
    let rows = document.lines().filter(|line| line.starts_with('|')).skip(2);
    let mut count = 0;
    for row in rows {
        let tests: Vec<&str> = row.rsplit('|').nth(1).unwrap().split(", ").collect();
        for test in tests {
            let named = test.trim().trim_matches('`');
            let (module, function) = named.rsplit_once("::").unwrap_or_else(|| panic!("{row}"));
            let file = module.replace("::", "/");
            let exists = |(path, text): &(String, String)| {
                path.contains(&format!("/{file}")) && text.contains(&format!("fn {function}("))
            };
            assert!(sources.iter().any(exists), "there is no test `{named}`");
            count += 1;
        }
    }
    assert!(count >= 20, "the table is not read");
}

/// Every source file below `folder`: its path and its text.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let files = files.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "rs"));
    let read =
        |path: std::path::PathBuf| (path.display().to_string(), fs::read_to_string(&path).unwrap());
    let below = folders.iter().flat_map(|folder| sources(folder));
    files.map(read).chain(below).collect()
}
