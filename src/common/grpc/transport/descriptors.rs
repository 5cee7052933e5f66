//! File descriptors: every connection takes one, and the database needs some too.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::debug;

/// Raises the soft limit of open files to the hard one: shells and service managers keep the
/// soft one low for programs that use `select`, which this one does not.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        debug!(%error, "the limit of open files could not be raised");
    }
}

/// The descriptors that connections may take: half, so that the database, the provider and the
/// cache have the other.
pub(super) fn share_for_connections() -> u32 {
    getrlimit(Resource::Nofile)
        .current
        .and_then(|limit| u32::try_from(limit / 2).ok())
        .unwrap_or(u32::MAX)
}
