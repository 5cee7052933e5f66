//! Connections, lent out to blocking threads one call at a time.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, InterruptHandle};
use tokio::sync::Semaphore;
use tokio::time::timeout_at;
use tokio_util::task::TaskTracker;

use super::{DatabaseError, ENGINE, connect, database_error};

/// At most a fixed number of connections, opened when first needed. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    path: Arc<PathBuf>,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    size: u32,
    deadline: Duration,
    tasks: TaskTracker,
}

/// How a call that takes too long is ended. Empty before it begins and after it ends, so that it
/// never ends another call.
type Interrupt = Arc<Mutex<Option<InterruptHandle>>>;

impl Pool {
    pub(super) fn new(path: PathBuf, size: usize, deadline: Duration, tasks: TaskTracker) -> Self {
        Self {
            path: Arc::new(path),
            idle: Arc::default(),
            permits: Arc::new(Semaphore::new(size)),
            size: u32::try_from(size).unwrap_or(u32::MAX),
            deadline,
            tasks,
        }
    }

    /// Waits for a connection and runs `work` on it, on a blocking thread. What is not over in
    /// time is interrupted: a transaction in it is rolled back.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, DatabaseError> + Send + 'static,
    {
        let deadline = tokio::time::Instant::now() + self.deadline;
        let too_slow = || {
            let detail = format!("no answer within {:?}", self.deadline);
            DatabaseError::unavailable(ENGINE, detail)
        };
        let permit = timeout_at(deadline, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| too_slow())?
            .map_err(|_| DatabaseError::unavailable(ENGINE, "it was closed"))?;
        let interrupt = Interrupt::default();
        let (pool, in_work) = (self.clone(), Arc::clone(&interrupt));
        let task = self.tasks.spawn_blocking(move || {
            let result = pool.run_blocking(&in_work, work);
            drop(permit);
            result
        });
        match timeout_at(deadline, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(DatabaseError::refused(ENGINE, format!("a call broke: {error}"))),
            Err(_) => {
                if let Some(handle) = locked(&interrupt).as_ref() {
                    handle.interrupt();
                }
                Err(too_slow())
            }
        }
    }

    fn run_blocking<T>(
        &self,
        interrupt: &Interrupt,
        work: impl FnOnce(&mut Connection) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        let idle = locked(&self.idle).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => connect(&self.path).map_err(database_error)?,
        };
        *locked(interrupt) = Some(connection.get_interrupt_handle());
        let result = work(&mut connection);
        *locked(interrupt) = None;
        locked(&self.idle).push(connection);
        result
    }

    /// Connections that are lent out, and idle.
    pub(super) fn connections(&self) -> (u32, u32) {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let lent = self.size.saturating_sub(count(self.permits.available_permits()));
        (lent, count(locked(&self.idle).len()))
    }

    /// Lends out nothing more, waits for what is lent out, and closes all.
    pub(super) async fn close(&self) {
        let all = timeout_at(
            tokio::time::Instant::now() + self.deadline,
            Arc::clone(&self.permits).acquire_many_owned(self.size),
        )
        .await;
        self.permits.close();
        drop(all);
        let idle = std::mem::take(&mut *locked(&self.idle));
        let closed = self.tasks.spawn_blocking(move || drop(idle)).await;
        if let Err(error) = closed {
            tracing::warn!(%error, "the database was not closed cleanly");
        }
    }
}

/// What is behind the lock has no state that a panic could break.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
