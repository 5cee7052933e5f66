//! The key file, which is read again whenever it changes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::io::AsyncReadExt as _;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::key_ring::{KeyFileMistakes, KeyRing};
use crate::common::error::with_causes;

/// How often the file is looked at. Its content is compared, so that any way to replace it is
/// noticed: writing to it, renaming over it, changing what a link to it points to.
const EVERY: Duration = Duration::from_secs(1);
/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Why a key file cannot be used.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It does not hold what it should.
    #[error("`{}` is wrong: {source}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: KeyFileMistakes,
    },
    /// It holds no key.
    #[error("`{}` holds no key, so nobody could call", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
}

/// The keys in a file, as they are now. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeyFile {
    path: Arc<Path>,
    ring: Arc<ArcSwap<KeyRing>>,
}

impl KeyFile {
    /// Reads the file at `path`.
    pub async fn open(path: &Path) -> Result<Self, KeyFileError> {
        let ring = parse(path, &content(path).await?)?;
        Ok(Self { path: path.into(), ring: Arc::new(ArcSwap::from_pointee(ring)) })
    }

    /// The keys of now.
    pub fn ring(&self) -> Arc<KeyRing> {
        self.ring.load_full()
    }

    /// Follows the file until `stopping`: a good one is taken within seconds; while it is broken,
    /// empty or away the keys stay as they were, and the log says why, once. What only one look
    /// finds is passed over: a file that is being written is empty at first.
    pub async fn follow(&self, stopping: CancellationToken) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut seen, mut judged) = (None, None);
        while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            let found = content(&self.path).await;
            let mark = Some(found.as_ref().map(Clone::clone).map_err(with_causes_of));
            if mark == seen && mark != judged {
                self.take(found);
                judged.clone_from(&mark);
            }
            seen = mark;
        }
    }

    fn take(&self, found: Result<String, KeyFileError>) {
        match found.and_then(|text| parse(&self.path, &text)) {
            Ok(ring) => {
                let keys = ring.len();
                self.ring.store(Arc::new(ring));
                info!(keys, "{keys} API keys are known");
            }
            Err(error) => {
                let error = with_causes(&error);
                warn!(error, "API_KEYS_FILE {error}; the keys stay as they were");
            }
        }
    }
}

fn with_causes_of(error: &KeyFileError) -> String {
    with_causes(error)
}

async fn content(path: &Path) -> Result<String, KeyFileError> {
    let read = async {
        let file = tokio::fs::File::open(path).await?;
        let mut text = String::new();
        file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).await?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::other("it is larger than 4 MiB"));
        }
        Ok(text)
    };
    read.await.map_err(|source| KeyFileError::Unreadable { path: path.to_owned(), source })
}

fn parse(path: &Path, text: &str) -> Result<KeyRing, KeyFileError> {
    let path = || path.to_owned();
    let ring =
        KeyRing::parse(text).map_err(|source| KeyFileError::Wrong { path: path(), source })?;
    if ring.is_empty() { Err(KeyFileError::Empty { path: path() }) } else { Ok(ring) }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;
    use crate::common::identity::ApiKey;
    use crate::common::tracing::{Lines, LogFormat};

    fn line(key: &ApiKey) -> String {
        format!("{} alice read {}\n", key.id(), key.hash())
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_being_written_is_passed_over_and_an_empty_one_is_refused() {
        let (lines, _guard) = Lines::capture(LogFormat::Console);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let (key, next) = (ApiKey::generate(), ApiKey::generate());
        std::fs::write(&path, line(&key)).unwrap();
        let file = KeyFile::open(&path).await.unwrap();
        let knows = |key: &ApiKey| file.ring().find(key).is_some();
        let said = |what: &str| lines.text().matches(what).count();
        let looked = async {
            sleep(EVERY / 2 + 2 * EVERY).await;
            // One look falls between an editor's emptying the file and its writing to it.
            for passing in ["", &line(&next), "nonsense"] {
                std::fs::write(&path, passing).unwrap();
                sleep(EVERY).await;
                assert!(knows(&key), "after {passing:?}: {}", lines.text());
                std::fs::write(&path, line(&key)).unwrap();
                sleep(3 * EVERY).await;
            }
            assert_eq!(said("stay as they were"), 0, "{}", lines.text());
            for empty in ["", "# none\n\n"] {
                std::fs::write(&path, empty).unwrap();
                sleep(10 * EVERY).await;
                assert!(knows(&key), "{}", lines.text());
            }
            assert_eq!(said("holds no key, so nobody could call; the keys stay"), 2);
            std::fs::write(&path, line(&next)).unwrap();
            sleep(3 * EVERY).await;
            assert!(knows(&next) && !knows(&key), "{}", lines.text());
        };
        tokio::select! {
            () = file.follow(CancellationToken::new()) => panic!("it ended"),
            () = looked => {}
        }
    }
}
