//! The database that handlers hold: one type, two engines.

use std::path::PathBuf;

use secrecy::SecretString;
use tokio_util::task::TaskTracker;

use super::mongodb::MongoDb;
use super::sqlite::Sqlite;
use super::{
    BarLog, Bars, Coverage, DatabaseError, FeedState, JobRuns, Subscriptions, Symbols,
    SyncStatuses, Syncs, WebhookOutbox, Webhooks,
};
use crate::common::metrics::table::DATABASE_CONNECTIONS;

/// Which engine, and where.
#[derive(Clone, Debug)]
pub enum DatabaseConfig {
    /// The embedded engine.
    Sqlite {
        /// The directory that holds it; made where it does not exist.
        data_dir: PathBuf,
    },
    /// A server.
    MongoDb {
        /// Its connection string.
        url: SecretString,
        /// The name of the database on it.
        database: String,
        /// Connections that are kept open.
        min_pool: u32,
        /// Connections at most.
        max_pool: u32,
    },
}

/// All that is kept. Cheap to clone. Every call has a deadline; every write is
/// durable when it returns, and is finished even where its caller goes away.
#[derive(Clone, Debug)]
pub struct Database {
    engine: Engine,
    tasks: TaskTracker,
}

/// A closed set: handlers name neither.
#[derive(Clone, Debug)]
pub(super) enum Engine {
    MongoDb(MongoDb),
    Sqlite(Sqlite),
}

impl Engine {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::MongoDb(_) => super::mongodb::ENGINE,
            Self::Sqlite(_) => super::sqlite::ENGINE,
        }
    }
}

impl Database {
    /// Connects, and brings indexes, validators and tables up to date. An engine that does not
    /// answer, or cannot be used, is a [`DatabaseError::Config`] that says what to do.
    pub async fn connect(
        config: DatabaseConfig,
        tasks: TaskTracker,
    ) -> Result<Self, DatabaseError> {
        let engine = match config {
            DatabaseConfig::Sqlite { data_dir } => {
                Engine::Sqlite(Sqlite::open(data_dir, tasks.clone()).await?)
            }
            DatabaseConfig::MongoDb { url, database, min_pool, max_pool } => Engine::MongoDb(
                MongoDb::connect(&url, &database, min_pool..=max_pool, tasks.clone()).await?,
            ),
        };
        Ok(Self { engine, tasks })
    }

    pub(super) const fn engine_of(&self) -> &Engine {
        &self.engine
    }

    /// `mongodb` or `sqlite`.
    pub const fn engine(&self) -> &'static str {
        self.engine.name()
    }

    /// Whether other processes may write to it too.
    pub const fn is_shared(&self) -> bool {
        match &self.engine {
            Engine::MongoDb(_) => true,
            Engine::Sqlite(_) => false,
        }
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        match &self.engine {
            Engine::MongoDb(engine) => engine.ping().await,
            Engine::Sqlite(engine) => engine.ping().await,
        }
    }

    /// Ends all connections once what runs has ended. Calls after it are `Unavailable`.
    pub async fn close(&self) {
        match &self.engine {
            Engine::MongoDb(engine) => engine.close().await,
            Engine::Sqlite(engine) => engine.close().await,
        }
    }

    /// Tells metrics how its connections are used.
    pub fn observe(&self) {
        let (in_use, idle) = match &self.engine {
            Engine::MongoDb(engine) => engine.connections(),
            Engine::Sqlite(engine) => engine.connections(),
        };
        DATABASE_CONNECTIONS.with(["in_use"]).set(in_use);
        DATABASE_CONNECTIONS.with(["idle"]).set(idle);
    }

    /// The bars.
    pub fn bars(&self) -> Bars {
        Bars::new(&self.engine, self.tasks.clone())
    }

    /// The log of bars that became final or were corrected.
    pub fn bar_log(&self) -> BarLog {
        BarLog::new(&self.engine)
    }

    /// Which symbols the feed follows.
    pub fn subscriptions(&self) -> Subscriptions {
        Subscriptions::new(&self.engine)
    }

    /// What the feed remembers of each symbol over a crash.
    pub fn feed_state(&self) -> FeedState {
        FeedState::new(&self.engine)
    }

    /// What was asked of the provider, and when the feed was there.
    pub fn coverage(&self) -> Coverage {
        Coverage::new(&self.engine)
    }

    /// The symbols.
    pub fn symbols(&self) -> Symbols {
        Symbols::new(&self.engine)
    }

    /// How the last sync of each series went.
    pub fn sync_statuses(&self) -> SyncStatuses {
        SyncStatuses::new(&self.engine)
    }

    /// The syncs that were asked for.
    pub fn syncs(&self) -> Syncs {
        Syncs::new(&self.engine)
    }

    /// Where events are sent to.
    pub fn webhooks(&self) -> Webhooks {
        Webhooks::new(&self.engine)
    }

    /// What is to be sent there.
    pub fn webhook_outbox(&self) -> WebhookOutbox {
        WebhookOutbox::new(&self.engine)
    }

    /// Which jobs ran for which instants.
    pub fn job_runs(&self) -> JobRuns {
        JobRuns::new(&self.engine)
    }
}
