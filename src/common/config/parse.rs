//! Reads settings one by one and collects what is wrong with them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use url::Url;

use super::error::{ConfigError, Mistake};
use super::table::Setting;
use crate::common::schedule::{Schedule, ScheduleError};

/// Looks settings up, and remembers what is wrong.
pub(super) struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    mistakes: Vec<Mistake>,
}

/// Why a value is refused: in words that repeat nothing of it, or nothing to add.
pub(super) type Problem = Option<String>;

impl<'a> Reader<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, mistakes: Vec::new() }
    }

    /// The value that was given; an empty one is none.
    pub(super) fn given(&self, setting: &Setting) -> Option<String> {
        (self.lookup)(setting.name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    /// The value that was given, or the default, parsed; nothing when there is none, or when it is
    /// wrong, which is noted.
    pub(super) fn read<T>(
        &mut self,
        setting: &Setting,
        parse: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Option<T> {
        let value = self.given(setting).or_else(|| setting.default.map(str::to_owned))?;
        parse(&value)
            .map_err(|problem| {
                self.note(Mistake::refused(setting, &value, problem.as_deref()));
            })
            .ok()
    }

    /// Notes a setting that a library reads by itself, from the environment alone, and that is
    /// given elsewhere: it would silently have no effect.
    pub(super) fn read_by_others(&mut self, setting: &Setting) {
        if self.given(setting).is_some() && std::env::var_os(setting.name).is_none() {
            self.note(Mistake::new(setting, "it is read from the environment only; export it"));
        }
    }

    /// The secret that was given.
    pub(super) fn secret(&self, setting: &Setting) -> Option<SecretString> {
        self.given(setting).map(SecretString::from)
    }

    pub(super) fn note(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    /// The settings, or all that is wrong with them.
    pub(super) fn finish<T>(self, settings: Option<T>) -> Result<T, ConfigError> {
        match settings {
            Some(settings) if self.mistakes.is_empty() => Ok(settings),
            _ => Err(ConfigError { mistakes: self.mistakes }),
        }
    }
}

pub(super) fn address(value: &str) -> Result<SocketAddr, Problem> {
    value.parse().map_err(|_| None)
}

pub(super) fn boolean(value: &str) -> Result<bool, Problem> {
    value.parse().map_err(|_| None)
}

/// Six cron fields.
pub(super) fn schedule(value: &str) -> Result<Schedule, Problem> {
    value.parse().map_err(|error: ScheduleError| Some(error.to_string()))
}

pub(super) fn path(value: &str) -> Result<PathBuf, Problem> {
    PathBuf::from_str(value).map_err(|_| None)
}

pub(super) fn readable_file(value: &str) -> Result<PathBuf, Problem> {
    match std::fs::File::open(value) {
        Ok(_) => Ok(PathBuf::from(value)),
        Err(error) => Err(Some(format!("it cannot be read: {error}"))),
    }
}

pub(super) fn number(from: u32, to: u32) -> impl Fn(&str) -> Result<u32, Problem> {
    move |value| value.parse().ok().filter(|number| (from..=to).contains(number)).ok_or(None)
}

/// Networks, or single addresses, with commas between them.
pub(super) fn networks(value: &str) -> Result<Vec<IpNet>, Problem> {
    let network = |text: &str| {
        let single = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or_else(|_| single()).map_err(|_| Some(format!("`{text}` is no network")))
    };
    value.split(',').map(str::trim).map(network).collect()
}

pub(super) fn duration(from: Duration, to: Duration) -> impl Fn(&str) -> Result<Duration, Problem> {
    move |value| {
        let duration = humantime::parse_duration(value).map_err(|error| Some(error.to_string()))?;
        if (from..=to).contains(&duration) { Ok(duration) } else { Err(None) }
    }
}

/// A number of bytes, with a unit: `64KiB`, `256MiB`, `1GiB`.
pub(super) fn size(from: u64, to: u64) -> impl Fn(&str) -> Result<u64, Problem> {
    move |value| {
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
        let read = units.iter().find_map(|(unit, shift)| {
            let number: u64 = value.strip_suffix(unit)?.trim_end().parse().ok()?;
            number.checked_mul(1 << shift)
        });
        read.filter(|size| (from..=to).contains(size)).ok_or(None)
    }
}

pub(super) fn database_name(value: &str) -> Result<String, Problem> {
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && !"/\\.\"$*<>:|?".contains(c);
    if value.len() <= 63 && value.chars().all(allowed) { Ok(value.to_owned()) } else { Err(None) }
}

/// A level, or directives in which every part is a level or names one.
pub(super) fn log_filter(value: &str) -> Result<String, Problem> {
    // A bare word that is no level would silently be taken for a module's name.
    let stray = value
        .split(',')
        .map(str::trim)
        .find(|part| !part.contains('=') && LevelFilter::from_str(part).is_err());
    if let Some(stray) = stray {
        return Err(Some(format!("`{stray}` is no level")));
    }
    match EnvFilter::builder().parse(value) {
        Ok(_) => Ok(value.to_owned()),
        Err(error) => Err(Some(error.to_string())),
    }
}

/// A URL with one of these schemes, a host, and no user or password.
pub(super) fn plain_url<'a>(schemes: &'a [&str]) -> impl Fn(&str) -> Result<Url, Problem> + 'a {
    move |value| {
        let url = Url::parse(value).map_err(|error| Some(error.to_string()))?;
        let anonymous = url.username().is_empty() && url.password().is_none();
        if schemes.contains(&url.scheme()) && url.has_host() && anonymous {
            Ok(url)
        } else {
            Err(None)
        }
    }
}

/// Text that begins as a URL with one of these schemes and names a host; its driver reads it.
pub(super) fn driver_url<'a>(schemes: &'a [&str]) -> impl Fn(&str) -> Result<String, Problem> + 'a {
    move |value| {
        let (scheme, rest) = value.split_once("://").ok_or(None)?;
        let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = place.rsplit('@').next().unwrap_or_default();
        if schemes.contains(&scheme) && !host.is_empty() { Ok(value.to_owned()) } else { Err(None) }
    }
}
