//! What the last checks found.

use std::time::Duration;

/// How the process, or something it depends on, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// Not checked yet.
    Unknown,
    /// It works.
    Serving,
    /// It works, without something it can do without.
    Degraded,
    /// It does not work, or is stopping.
    NotServing,
    /// It is switched off, by the settings or by somebody.
    Disabled,
}

/// How something that the process depends on is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DependencyReport {
    /// Its name.
    pub name: &'static str,
    /// What the last checks found.
    pub state: HealthState,
    /// How long the last check took, if there was one.
    pub latency: Option<Duration>,
    /// Why the last check failed, if it did, or why it is switched off; no secret.
    pub error: Option<String>,
}

/// How the process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    /// All in all.
    pub state: HealthState,
    /// Each dependency, in the order in which they were named.
    pub dependencies: Vec<DependencyReport>,
}

impl HealthReport {
    /// Whether the process can serve.
    pub fn is_ready(&self) -> bool {
        self.state.works()
    }
}

impl DependencyReport {
    /// Whether it works.
    pub fn is_up(&self) -> bool {
        self.state.works()
    }
}

impl HealthState {
    const fn works(self) -> bool {
        match self {
            Self::Serving | Self::Degraded => true,
            Self::Unknown | Self::NotServing | Self::Disabled => false,
        }
    }
}
