//! Where settings are looked up: the environment, and before nothing `.env`.

use std::collections::HashMap;
use std::env;
use std::path::Path;

use super::error::{ConfigError, Mistake};

/// A lookup in the process's environment and then in `dotenv`, a file that need not exist.
///
/// A variable that is set in the environment, even to nothing, hides the one in the file. The
/// process's environment is never changed.
pub fn environment(dotenv: &Path) -> Result<impl Fn(&str) -> Option<String>, ConfigError> {
    let file = read(dotenv)?;
    Ok(move |name: &str| match env::var_os(name) {
        Some(value) => Some(value.to_string_lossy().into_owned()),
        None => file.get(name).cloned(),
    })
}

fn read(path: &Path) -> Result<HashMap<String, String>, ConfigError> {
    let unreadable = |what: String| {
        let name = path.display().to_string();
        let message = format!("{what}; correct the file, or remove it");
        ConfigError { mistakes: vec![Mistake { name, message }] }
    };
    let variables = match dotenvy::from_path_iter(path) {
        Ok(variables) => variables,
        Err(error) if error.not_found() => return Ok(HashMap::new()),
        Err(error) => return Err(unreadable(format!("cannot be read ({error})"))),
    };
    let mut found = HashMap::new();
    let mut last = None;
    for variable in variables {
        // dotenvy's own message quotes the line, which may hold a secret.
        let (name, value) = variable.map_err(|_| {
            let place = last.as_ref().map(|name| format!(" after {name}")).unwrap_or_default();
            unreadable(format!("the line{place} is not `NAME=value` (quote values with spaces)"))
        })?;
        last = Some(name.clone());
        found.entry(name).or_insert(value);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_not_there_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(&folder.path().join(".env")), Ok(HashMap::new()));
    }

    #[test]
    fn the_environment_beats_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        fs::write(&path, "PATH=from-file\nPOCKETQUANT_TEST_ONLY_HERE='a $b c'\n").unwrap();
        let lookup = environment(&path).unwrap();
        assert_ne!(lookup("PATH").as_deref(), Some("from-file"));
        assert_eq!(lookup("POCKETQUANT_TEST_ONLY_HERE").as_deref(), Some("a $b c"));
        assert_eq!(lookup("POCKETQUANT_TEST_NOWHERE"), None);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_reported_without_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        fs::write(&path, "GRPC_ADDR=127.0.0.1:1\nTRADINGVIEW_PASSWORD=hush hush\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("after GRPC_ADDR") && !error.contains("hush"), "{error}");
    }
}
