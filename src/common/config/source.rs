//! Where settings are looked up: the environment, and before nothing `.env`.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;

use super::error::{ConfigError, Mistake};
use super::table::SETTINGS;

/// How alike a name and a setting are, of 1, for one to be meant by the other.
const ALIKE: f64 = 0.7;

/// The variables of a file such as `.env`.
#[derive(Debug, PartialEq, Eq)]
pub struct EnvFile(BTreeMap<String, String>);

/// A variable of the file that no setting is called like.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownName<'a> {
    /// Its name.
    pub name: &'a str,
    /// The setting that may be meant.
    pub meant: Option<&'static str>,
}

impl EnvFile {
    /// Reads the file at `path`, which need not exist.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |what: String| {
            let name = path.display().to_string();
            let message = format!("{what}; correct the file, or remove it");
            ConfigError { mistakes: vec![Mistake { name, message }] }
        };
        let mut found = BTreeMap::new();
        let variables = match dotenvy::from_path_iter(path) {
            Ok(variables) => variables,
            Err(error) if error.not_found() => return Ok(Self(found)),
            Err(error) => return Err(unreadable(format!("cannot be read ({error})"))),
        };
        let mut last = None;
        for variable in variables {
            // dotenvy's own message quotes the line, which may hold a secret.
            let (name, value) = variable.map_err(|_| {
                let place = last.as_ref().map(|name| format!(" after {name}")).unwrap_or_default();
                unreadable(format!(
                    "the line{place} is not `NAME=value` (quote values with spaces)"
                ))
            })?;
            last = Some(name.clone());
            found.entry(name).or_insert(value);
        }
        Ok(Self(found))
    }

    /// The variable `name` of the process's environment, or else of the file.
    ///
    /// A variable that is set in the environment, even to nothing, hides the one in the file. The
    /// process's environment is never changed.
    pub fn lookup(&self, name: &str) -> Option<String> {
        match env::var_os(name) {
            Some(value) => Some(value.to_string_lossy().into_owned()),
            None => self.0.get(name).cloned(),
        }
    }

    /// The variables of the file that are no settings.
    pub fn unknown(&self) -> impl Iterator<Item = UnknownName<'_>> {
        let is_known = |name: &str| SETTINGS.iter().any(|setting| setting.name == name);
        let unknown = self.0.keys().filter(move |name| !is_known(name));
        unknown.map(|name| UnknownName { name, meant: meant_by(name) })
    }
}

/// The setting that is most like `name`, if any is.
fn meant_by(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    let alike = |setting: &str| strsim::normalized_damerau_levenshtein(&name, setting);
    let all = SETTINGS.iter().map(|setting| (alike(setting.name), setting.name));
    let (alike, nearest) = all.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (alike >= ALIKE).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_not_there_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(EnvFile::read(&folder.path().join(".env")), Ok(EnvFile(BTreeMap::new())));
    }

    #[test]
    fn the_environment_beats_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        fs::write(&path, "PATH=from-file\nPOCKETQUANT_TEST_ONLY_HERE='a $b c'\n").unwrap();
        let file = EnvFile::read(&path).unwrap();
        assert_ne!(file.lookup("PATH").as_deref(), Some("from-file"));
        assert_eq!(file.lookup("POCKETQUANT_TEST_ONLY_HERE").as_deref(), Some("a $b c"));
        assert_eq!(file.lookup("POCKETQUANT_TEST_NOWHERE"), None);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_reported_without_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        fs::write(&path, "GRPC_ADDR=127.0.0.1:1\nTRADINGVIEW_PASSWORD=hush hush\n").unwrap();
        let error = EnvFile::read(&path).unwrap_err().to_string();
        assert!(error.contains("after GRPC_ADDR") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn a_name_that_is_no_setting_is_told_with_the_one_that_it_resembles() {
        for (name, meant) in [
            ("GRPC_ADDRR", Some("GRPC_ADDR")),
            ("JOB_RETENTIN_ENABLED", Some("JOB_RETENTION_ENABLED")),
            ("MONGO_URL", Some("MONGODB_URL")),
            ("log_level", Some("LOG_LEVEL")),
            ("COMPOSE_PROJECT_NAME", None),
        ] {
            let variables = [name, "GRPC_ADDR"].map(|name| (name.to_owned(), String::new()));
            let file = EnvFile(variables.into());
            assert_eq!(file.unknown().collect::<Vec<_>>(), [UnknownName { name, meant }]);
        }
    }
}
