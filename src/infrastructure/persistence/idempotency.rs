//! What became of idempotency keys: in Redis where it is configured, so that services that share
//! it share the keys; else in the database.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::cache::{Cache, CacheError, RedisIdempotency, observe};
use super::calls::Calls;
use super::database::{Database, Engine};
use super::{DatabaseError, mongodb, sqlite};
use crate::common::error::{Coded as _, ErrorCode};
use crate::common::idempotency::{Claim, IdempotencyStore, KeyedCall, Scope, StoreError, Token};
use crate::common::metrics::outcome_of;

/// What the records are called in metrics and traces.
const RECORDS: &str = "idempotency";

/// The records. Cheap to clone.
#[derive(Clone, Debug)]
pub struct IdempotencyRecords {
    engine: RecordsEngine,
    calls: RecordCalls,
}

/// Whose calls an access is counted among.
#[derive(Clone, Copy, Debug)]
enum RecordCalls {
    /// The cache's, of this engine.
    Cache(&'static str),
    Database(Calls),
}

#[derive(Clone, Debug)]
enum RecordsEngine {
    Redis(RedisIdempotency),
    MongoDb(mongodb::Idempotency),
    Sqlite(sqlite::Idempotency),
}

impl IdempotencyRecords {
    /// Kept in `cache` where that is a Redis, else in `database`.
    pub fn new(database: &Database, cache: &Cache) -> Self {
        if let Some(redis) = cache.idempotency() {
            let (engine, calls) = (RecordsEngine::Redis(redis), RecordCalls::Cache(cache.engine()));
            return Self { engine, calls };
        }
        let calls = Calls::new(database.engine(), RECORDS);
        let engine = match database.engine_of() {
            Engine::MongoDb(engine) => RecordsEngine::MongoDb(mongodb::Idempotency::new(engine)),
            Engine::Sqlite(engine) => RecordsEngine::Sqlite(sqlite::Idempotency::new(engine)),
        };
        Self { engine, calls: RecordCalls::Database(calls) }
    }

    /// Does `work`, which is `operation`: counted, timed and traced.
    fn observe<'a, T: 'a>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        let (calls, work) = (self.calls, work.boxed());
        async move {
            match calls {
                RecordCalls::Cache(engine) => {
                    observe((engine, RECORDS), operation, outcome_of, work).await
                }
                RecordCalls::Database(calls) => calls.observe(operation, work).await,
            }
        }
        .boxed()
    }
}

impl IdempotencyStore for IdempotencyRecords {
    fn unavailable(&self) -> ErrorCode {
        match self.engine {
            RecordsEngine::Redis(_) => ErrorCode::CacheUnavailable,
            RecordsEngine::MongoDb(_) | RecordsEngine::Sqlite(_) => ErrorCode::DatabaseUnavailable,
        }
    }

    fn claim<'a>(
        &'a self,
        call: &'a KeyedCall,
        token: Token,
        lease: Duration,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Claim, StoreError>> {
        self.observe("claim", async move {
            Ok(match &self.engine {
                RecordsEngine::Redis(engine) => engine.claim(call, token, lease, ttl).await?,
                RecordsEngine::MongoDb(engine) => engine.claim(call, token, lease, ttl).await?,
                RecordsEngine::Sqlite(engine) => engine.claim(call, token, lease, ttl).await?,
            })
        })
    }

    fn renew<'a>(
        &'a self,
        scope: &'a Scope,
        token: Token,
        lease: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.observe("renew", async move {
            Ok(match &self.engine {
                RecordsEngine::Redis(engine) => engine.renew(scope, token, lease).await?,
                RecordsEngine::MongoDb(engine) => engine.renew(scope, token, lease).await?,
                RecordsEngine::Sqlite(engine) => engine.renew(scope, token, lease).await?,
            })
        })
    }

    fn finish<'a>(
        &'a self,
        call: &'a KeyedCall,
        token: Token,
        answer: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.observe("finish", async move {
            Ok(match &self.engine {
                RecordsEngine::Redis(engine) => engine.finish(call, token, answer, ttl).await?,
                RecordsEngine::MongoDb(engine) => engine.finish(call, token, answer, ttl).await?,
                RecordsEngine::Sqlite(engine) => engine.finish(call, token, answer, ttl).await?,
            })
        })
    }

    fn release<'a>(
        &'a self,
        scope: &'a Scope,
        token: Token,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.observe("release", async move {
            match &self.engine {
                RecordsEngine::Redis(engine) => engine.release(scope, token).await?,
                RecordsEngine::MongoDb(engine) => engine.release(scope, token).await?,
                RecordsEngine::Sqlite(engine) => engine.release(scope, token).await?,
            }
            Ok(())
        })
    }
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        Self::new(error.code(), error)
    }
}

impl From<CacheError> for StoreError {
    fn from(error: CacheError) -> Self {
        let code = match error {
            CacheError::Unavailable { .. } => ErrorCode::CacheUnavailable,
            CacheError::Config { .. } => ErrorCode::Internal,
        };
        Self::new(code, error)
    }
}
