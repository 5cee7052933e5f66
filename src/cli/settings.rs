//! Where commands that run the service take its settings from.

use std::env;
use std::path::{Path, PathBuf};

use clap::Args;
use tracing::warn;

use super::failure::UsageMistake;
use crate::common::config::{EnvFile, LogSettings, Settings, UnknownName};
use crate::common::tracing::{Collector, init};

/// The file that is read when it is there.
const DOTENV: &str = ".env";

/// Where the settings are.
#[derive(Debug, Args)]
pub(super) struct SettingsArgs {
    /// Read settings from FILE instead of `.env`; the environment beats it
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
}

impl SettingsArgs {
    /// The settings, valid; every mistake is told at once. Starts logging and tracing as they say,
    /// and warns of names in the file that are no settings.
    pub(super) fn load(&self) -> anyhow::Result<Settings> {
        let path = match &self.env_file {
            // `.env` may be missing; a file that is asked for may not.
            Some(path) if !path.is_file() => {
                let mistake = format!("there is no file `{}` for --env-file", path.display());
                return Err(UsageMistake(mistake).into());
            }
            Some(path) => path.as_path(),
            None => Path::new(DOTENV),
        };
        let file = EnvFile::read(path)?;
        let settings = Settings::from_lookup(|name| file.lookup(name))?;
        let telemetry = &settings.telemetry;
        let collector = telemetry.collector.as_ref().map(|endpoint| Collector {
            endpoint: endpoint.as_str(),
            roots: telemetry.collector_roots.as_deref(),
        });
        init(settings.log.format, &settings.log.filter, collector)?;
        for UnknownName { name, meant } in file.unknown() {
            let meant = meant.map(|setting| format!("; is {setting} meant?")).unwrap_or_default();
            warn!("`{name}` in `{}` is no setting and is ignored{meant}", path.display());
        }
        Ok(settings)
    }
}

/// Starts logging as the settings say, without traces.
pub(super) fn start_logging(log: &LogSettings) -> anyhow::Result<()> {
    Ok(init(log.format, &log.filter, None)?)
}

/// The settings in `given`; the environment decides about logging only.
pub(super) fn isolated(given: &[(&str, String)]) -> anyhow::Result<Settings> {
    let lookup = |name: &str| {
        let found = given.iter().find(|each| each.0 == name).map(|each| each.1.clone());
        let logging = name.starts_with("LOG_").then(|| env::var(name).ok()).flatten();
        logging.filter(|value| !value.is_empty()).or(found)
    };
    Ok(Settings::from_lookup(lookup)?)
}
