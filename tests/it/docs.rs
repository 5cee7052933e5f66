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
