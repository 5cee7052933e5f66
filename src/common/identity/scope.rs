//! What a key allows, and what a call needs.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A part of the service that a key opens. `Admin` opens every part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Look at what is stored and known.
    Read,
    /// Follow live quotes and bars.
    Stream,
    /// Have history copied from the provider.
    Sync,
    /// Everything, the operation of the service too.
    Admin,
}

/// A word that is no scope.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a scope is one of read, stream, sync, admin")]
pub struct UnknownScope;

impl Scope {
    /// All of them, the least first.
    pub const ALL: [Self; 4] = [Self::Read, Self::Stream, Self::Sync, Self::Admin];

    /// Its name in key files and errors.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Stream => "stream",
            Self::Sync => "sync",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Stream => 2,
            Self::Sync => 4,
            Self::Admin => 8,
        }
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|each| each.as_str() == text).ok_or(UnknownScope)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The scopes of a key: one at least. As text `read,stream`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Whether they open what needs `scope`.
    pub const fn allow(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    /// Whether they open what needs `access`.
    pub const fn open(self, access: Access) -> bool {
        match access {
            Access::Public => true,
            Access::Needs(scope) => self.allow(scope),
        }
    }
}

impl FromStr for Scopes {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let bits = text.split(',').map(|word| word.trim().parse::<Scope>().map(Scope::bit));
        let bits = bits.collect::<Result<Vec<u8>, _>>()?;
        Ok(Self(bits.into_iter().fold(0, |all, bit| all | bit)))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held: Vec<&str> = Scope::ALL
            .into_iter()
            .filter(|scope| self.0 & scope.bit() != 0)
            .map(Scope::as_str)
            .collect();
        f.write_str(&held.join(","))
    }
}

/// What a call needs, where callers must show a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Public,
    /// A key with this scope.
    Needs(Scope),
}

/// How calls of one method are guarded. A request's extensions hold it from the authentication
/// layer on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it needs.
    pub access: Access,
    /// Whether calls are counted against the caller's rate limit.
    pub limited: bool,
    /// Whether its answer is a stream that occupies one of the caller's places.
    pub streams: bool,
}

impl Rule {
    /// For what nobody has thought of: the strictest.
    pub const UNKNOWN: Self =
        Self { access: Access::Needs(Scope::Admin), limited: true, streams: false };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_what_they_say() {
        let scopes: Scopes = "stream, read".parse().unwrap();
        assert_eq!(scopes.to_string(), "read,stream");
        let allowed = Scope::ALL.map(|scope| scopes.allow(scope));
        assert_eq!(allowed, [true, true, false, false]);
        let admin: Scopes = "admin".parse().unwrap();
        assert!(Scope::ALL.into_iter().all(|scope| admin.allow(scope)));
    }

    #[test]
    fn anything_else_is_no_scope() {
        for text in ["", "write", "read,", "Read", "read stream"] {
            assert_eq!(text.parse::<Scopes>(), Err(UnknownScope), "{text}");
        }
    }
}
