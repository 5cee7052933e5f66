//! What became of idempotency keys: in Redis where it is configured, so that services that share
//! it share the keys; else in the database.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::cache::{Cache, CacheError, RedisIdempotency};
use super::database::{Database, Engine};
use super::{DatabaseError, mongodb, sqlite};
use crate::common::error::{Coded as _, ErrorCode};
use crate::common::idempotency::{Claim, IdempotencyStore, KeyedCall, Scope, StoreError, Token};

/// The records. Cheap to clone.
#[derive(Clone, Debug)]
pub struct IdempotencyRecords(RecordsEngine);

#[derive(Clone, Debug)]
enum RecordsEngine {
    Redis(RedisIdempotency),
    MongoDb(mongodb::Idempotency),
    Sqlite(sqlite::Idempotency),
}

impl IdempotencyRecords {
    /// Kept in `cache` where that is a Redis, else in `database`.
    pub fn new(database: &Database, cache: &Cache) -> Self {
        Self(match (cache.idempotency(), database.engine_of()) {
            (Some(redis), _) => RecordsEngine::Redis(redis),
            (None, Engine::MongoDb(engine)) => {
                RecordsEngine::MongoDb(mongodb::Idempotency::new(engine))
            }
            (None, Engine::Sqlite(engine)) => {
                RecordsEngine::Sqlite(sqlite::Idempotency::new(engine))
            }
        })
    }
}

impl IdempotencyStore for IdempotencyRecords {
    fn unavailable(&self) -> ErrorCode {
        match self.0 {
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
        Box::pin(async move {
            Ok(match &self.0 {
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
        Box::pin(async move {
            Ok(match &self.0 {
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
        Box::pin(async move {
            Ok(match &self.0 {
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
        Box::pin(async move {
            match &self.0 {
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
