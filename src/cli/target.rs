//! Files that appear under their name only when they are complete.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file that is being written.
#[derive(Debug)]
pub(super) enum Target {
    /// Beside where it belongs, until it is complete.
    Beside(NamedTempFile, PathBuf),
    /// What is no regular file, such as a device or a pipe, is written as it is.
    Direct(File),
}

impl Target {
    /// Begins; the file that may be there stays as it is until [`Target::finish`].
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // A link is followed: the file is replaced and not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
            return OpenOptions::new().write(true).open(&path).map(Self::Direct);
        }
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let mut builder = tempfile::Builder::new();
        builder.prefix(".pocketquant-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // As any file that is made: the umask takes away from it.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(folder.unwrap_or_else(|| Path::new(".")))?;
        Ok(Self::Beside(file, path))
    }

    /// Where to write.
    pub(super) fn file(&mut self) -> &mut File {
        match self {
            Self::Beside(file, _) => file.as_file_mut(),
            Self::Direct(file) => file,
        }
    }

    /// Puts the file where it belongs.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Beside(file, path) => {
                file.as_file().sync_all()?;
                file.persist(path).map(drop).map_err(|error| error.error)
            }
            Self::Direct(_) => Ok(()),
        }
    }
}
