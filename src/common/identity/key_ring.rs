//! The keys of a key file: one a line, `ID PRINCIPAL SCOPES HASH`.
//!
//! Empty lines and lines that begin with `#` say nothing. What is wrong is told by line, and
//! never with the line's text: somebody may have put a key there.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use super::api_key::{ApiKey, KeyHash, is_key_id};
use super::scope::{Scope, Scopes};

/// Keys that a principal may have at once: the old one and the new one of a rotation.
pub const KEYS_PER_PRINCIPAL: usize = 2;

/// A key that is known here.
#[derive(Clone, Debug)]
pub struct KeyEntry {
    /// What it is found by.
    pub id: String,
    /// Whose it is.
    pub principal: Arc<str>,
    /// What it allows.
    pub scopes: Scopes,
    /// What is stored of the key itself.
    pub hash: KeyHash,
}

/// As it stands in the file.
impl fmt::Display for KeyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, principal, scopes, hash } = self;
        write!(f, "{id} {principal} {scopes} {hash}")
    }
}

/// All keys that are known, by id.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    entries: HashMap<String, KeyEntry>,
}

/// What is wrong with a key file: every line, at least one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{}", .lines.iter().map(|(line, problem)| format!("line {line}: {problem}")).collect::<Vec<_>>().join("; "))]
pub struct KeyFileMistakes {
    /// The number of each wrong line, from 1, and what is wrong with it.
    pub lines: Vec<(usize, String)>,
}

impl KeyRing {
    /// The keys in `text`.
    pub fn parse(text: &str) -> Result<Self, KeyFileMistakes> {
        let mut ring = Self::default();
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Err(problem) = entry(line).and_then(|entry| ring.add(entry)) {
                lines.push((number, problem));
            }
        }
        if lines.is_empty() { Ok(ring) } else { Err(KeyFileMistakes { lines }) }
    }

    /// Adds a key, or says why it may not be added.
    pub fn add(&mut self, entry: KeyEntry) -> Result<(), String> {
        let KeyEntry { id, principal, .. } = &entry;
        if self.entries.contains_key(id) {
            return Err(format!("the id `{id}` is there already"));
        }
        let live = self.entries.values().filter(|each| each.principal == *principal).count();
        if live >= KEYS_PER_PRINCIPAL {
            return Err(format!(
                "`{principal}` has {KEYS_PER_PRINCIPAL} keys already, the old and the new one of a \
                 rotation; remove one first"
            ));
        }
        self.entries.insert(id.clone(), entry);
        Ok(())
    }

    /// What is known about `key`, if it is right.
    pub fn find(&self, key: &ApiKey) -> Option<&KeyEntry> {
        let hash = key.hash();
        self.entries.get(key.id()).filter(|entry| entry.hash.matches(&hash))
    }

    /// All keys, by principal and id.
    pub fn entries(&self) -> Vec<&KeyEntry> {
        let mut entries: Vec<&KeyEntry> = self.entries.values().collect();
        entries.sort_by(|a, b| (&a.principal, &a.id).cmp(&(&b.principal, &b.id)));
        entries
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Whether `text` can name a principal: 1 to 64 letters, digits, `.`, `-`, `_` and `@`.
pub fn is_principal_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_@".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

fn entry(line: &str) -> Result<KeyEntry, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [id, principal, scopes, hash] = words.as_slice() else {
        return Err(
            "it must be `ID PRINCIPAL SCOPES HASH`, as `pocketquant keys new` prints it".to_owned()
        );
    };
    if !is_key_id(id) {
        return Err("the id must be 1 to 64 letters, digits, `-` and `_`".to_owned());
    }
    if !is_principal_name(principal) {
        return Err("the principal must be 1 to 64 letters, digits and `.-_@`".to_owned());
    }
    let scopes: Scopes = scopes.parse().map_err(|_| {
        let all = Scope::ALL.map(Scope::as_str).join(", ");
        format!("the scopes must be some of {all}, with commas between them")
    })?;
    let hash = KeyHash::parse(hash).map_err(|error| error.to_string())?;
    Ok(KeyEntry { id: (*id).to_owned(), principal: (*principal).into(), scopes, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(key: &ApiKey, principal: &str, scopes: &str) -> String {
        format!("{} {principal} {scopes} {}\n", key.id(), key.hash())
    }

    #[test]
    fn a_key_is_found_with_its_secret_only() {
        let (key, other) = (ApiKey::generate(), ApiKey::generate());
        let text = format!("# keys\n\n{}", line(&key, "alice", "read,sync"));
        let ring = KeyRing::parse(&text).unwrap();
        let found = ring.find(&key).unwrap();
        assert_eq!((&*found.principal, found.scopes.to_string()), ("alice", "read,sync".into()));
        assert!(ring.find(&other).is_none());
        let guess = ApiKey::parse(&format!("{}.guess", key.id())).unwrap();
        assert!(ring.find(&guess).is_none());
    }

    #[test]
    fn a_third_key_of_a_principal_is_a_mistake() {
        let keys = [(); 3].map(|()| ApiKey::generate());
        let mut text: String = keys[..2].iter().map(|key| line(key, "alice", "read")).collect();
        assert_eq!(KeyRing::parse(&text).unwrap().len(), 2);
        text += &line(&keys[2], "alice", "read");
        let mistakes = KeyRing::parse(&text).unwrap_err();
        assert_eq!(mistakes.lines[0].0, 3);
        assert!(mistakes.to_string().contains("`alice` has 2 keys"), "{mistakes}");
    }

    #[test]
    fn every_wrong_line_is_told_and_none_is_shown() {
        let (key, hash) = (ApiKey::generate(), ApiKey::generate().hash());
        let text = format!(
            "hush.hush\nhush! alice read {hash}\na hush! read {hash}\na alice hush {hash}\na alice read hush\n{0}{0}",
            line(&key, "alice", "read")
        );
        let mistakes = KeyRing::parse(&text).unwrap_err();
        let lines: Vec<usize> = mistakes.lines.iter().map(|each| each.0).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 7]);
        assert!(!mistakes.to_string().contains("hush"), "{mistakes}");
    }
}
