//! Python, with the packages that `scripts/test` has fetched.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

/// Where the packages are; `bin` in it has their programs.
pub fn packages() -> PathBuf {
    let folder = env::var_os("TEST_PYTHON_PACKAGES");
    PathBuf::from(folder.expect("scripts/test says where the Python packages are"))
}

/// `program` of Python, or Python itself, which finds the packages and what is in `also`.
pub fn python(program: impl AsRef<Path>, also: Option<&Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    let path = env::join_paths(also.map(Path::to_owned).into_iter().chain([packages()])).unwrap();
    command.env("PYTHONPATH", path).env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}
