//! `keys`: make API keys, and look at those in a file.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::failure::UsageMistake;
use super::output::{Align, Output, Rows};
use crate::common::identity::{ApiKey, KeyEntry, KeyRing, Scope, Scopes, is_principal_name};

/// The setting that names the server's file.
const FILE_VARIABLE: &str = "API_KEYS_FILE";

/// Make API keys for callers of the server, and list those in a file
#[derive(Debug, Args)]
pub(super) struct Keys {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    New(New),
    List(List),
}

/// Make a key
///
/// The key is printed once, on the first line, and kept nowhere: the second line, for the server's
/// key file, holds its hash only. With --file that line is added to the file instead; a running
/// server takes it within seconds. A principal can have two keys, so that the new one can be in
/// use before the old one is removed.
#[derive(Debug, Args)]
struct New {
    /// Whose key it is: its calls are counted and its idempotency keys are kept under this name
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = parse_principal)]
    principal: String,
    /// What it allows: read, stream, sync, admin, with commas between them; admin is everything
    #[arg(long, value_name = "SCOPES", default_value = "read", value_parser = parse_scopes)]
    scopes: Scopes,
    /// Add it to FILE, which is made when it is missing
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// List the keys in a file
#[derive(Debug, Args)]
struct List {
    /// The key file
    #[arg(long, value_name = "FILE", help = format!("The key file [env: {FILE_VARIABLE}]"))]
    file: Option<PathBuf>,
}

impl Keys {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self.action {
            Action::New(new) => new.run(),
            Action::List(list) => list.run(),
        }
    }
}

impl New {
    fn run(self) -> anyhow::Result<ExitCode> {
        let Self { principal, scopes, file } = self;
        let key = ApiKey::generate();
        let (id, hash) = (key.id().to_owned(), key.hash());
        let entry = KeyEntry { id, principal: principal.into(), scopes, hash };
        let line = entry.to_string();
        if let Some(file) = &file {
            add(file, entry)?;
        }
        let mut output = Output::stdout();
        output.line(key.expose())?;
        if file.is_none() {
            output.line(line)?;
        }
        output.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

impl List {
    fn run(self) -> anyhow::Result<ExitCode> {
        let variable = || env::var_os(FILE_VARIABLE).filter(|value| !value.is_empty());
        let file = self.file.or_else(|| variable().map(PathBuf::from)).ok_or_else(|| {
            UsageMistake(format!("which file? Give it with --file, or in {FILE_VARIABLE}"))
        })?;
        let ring = read(&file)?.1;
        let mut rows =
            Rows::new(&[("principal", Align::Left), ("id", Align::Left), ("scopes", Align::Left)]);
        for KeyEntry { id, principal, scopes, .. } in ring.entries() {
            rows.push(vec![principal.to_string(), id.clone(), scopes.to_string()]);
        }
        let mut output = Output::stdout();
        output.table(&rows)?;
        output.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Adds a line to the file, unless the file is wrong or would be with it.
fn add(path: &Path, entry: KeyEntry) -> anyhow::Result<()> {
    let (text, mut ring) = match fs::exists(path) {
        Ok(false) => (String::new(), KeyRing::default()),
        Ok(true) | Err(_) => read(path)?,
    };
    // What stands in the last line stays there, also where nobody ended it.
    let separator = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let line = format!("{separator}{entry}\n");
    let shown = path.display();
    ring.add(entry).map_err(anyhow::Error::msg).with_context(|| format!("`{shown}`"))?;
    append(path, &line).with_context(|| format!("cannot write to `{shown}`"))
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    // In one piece: a server may be reading.
    file.write_all(line.as_bytes())?;
    file.sync_all()
}

fn read(path: &Path) -> anyhow::Result<(String, KeyRing)> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{shown}`"))?;
    let ring = KeyRing::parse(&text).with_context(|| format!("`{shown}` is wrong"))?;
    Ok((text, ring))
}

fn parse_principal(text: &str) -> Result<String, String> {
    let wrong = || "it is not 1 to 64 letters, digits and `.-_@`".to_owned();
    is_principal_name(text).then(|| text.to_owned()).ok_or_else(wrong)
}

fn parse_scopes(text: &str) -> Result<Scopes, String> {
    let all = Scope::ALL.map(Scope::as_str).join(", ");
    text.parse().map_err(|_| format!("it is not some of {all} with commas between them"))
}
