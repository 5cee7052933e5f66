//! What is wrong with the settings, and what to do about it.

use std::fmt;

use thiserror::Error;

use super::redact::redact_url;
use super::table::{Sensitivity, Setting};

/// One wrong setting, as its user reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The variable.
    pub name: String,
    /// What is wrong with it, what is accepted, and what to do. No secret.
    pub message: String,
}

/// Settings that are wrong: all of them, at least one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct ConfigError {
    /// Each mistake.
    pub mistakes: Vec<Mistake>,
}

impl Mistake {
    /// `value` is not what `setting` accepts; `problem` says more, and no secret.
    pub(super) fn refused(setting: &Setting, value: &str, problem: Option<&str>) -> Self {
        let shown = match setting.sensitivity {
            Sensitivity::Plain => format!("`{}`", value.escape_debug()),
            Sensitivity::Url => format!("`{}`", redact_url(value).escape_debug()),
            Sensitivity::Secret => "the value (not shown)".to_owned(),
        };
        let problem = problem.map(|problem| format!(" ({problem})")).unwrap_or_default();
        Self::new(setting, &format!("{shown} is not accepted{problem}"))
    }

    /// `setting` as it is cannot be used; `problem` says why, and no secret.
    pub(super) fn new(setting: &Setting, problem: &str) -> Self {
        let otherwise = match setting.default {
            Some(default) => format!("unset it for the default `{default}`"),
            None => "unset it to do without".to_owned(),
        };
        let message = format!("{problem}; give {}, or {otherwise}", setting.accepts);
        Self { name: setting.name.to_owned(), message }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mistakes.len() {
            1 => f.write_str("a setting is wrong:")?,
            count => write!(f, "{count} settings are wrong:")?,
        }
        for Mistake { name, message } in &self.mistakes {
            write!(f, "\n  {name}: {message}")?;
        }
        Ok(())
    }
}
