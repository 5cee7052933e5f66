//! stub
use super::super::bar_log::{LogBar, LogHead, LogPage, Wanted};
use super::{DatabaseError, ENGINE, MongoDb};
use jiff::Timestamp;

#[derive(Clone, Debug)]
pub(in super::super) struct BarLog(MongoDb);

const NO: &str = "has no bar log yet";
impl BarLog {
    pub(in super::super) fn new(engine: &MongoDb) -> Self {
        Self(engine.clone())
    }
    pub(in super::super) async fn append(
        &self,
        _: Vec<LogBar>,
        _: Timestamp,
    ) -> Result<Vec<(u64, usize)>, DatabaseError> {
        self.0.ping().await?;
        Err(DatabaseError::refused(ENGINE, NO))
    }
    pub(in super::super) async fn recover(&self) -> Result<Vec<(u64, LogBar)>, DatabaseError> {
        self.0.ping().await?;
        Err(DatabaseError::refused(ENGINE, NO))
    }
    pub(in super::super) async fn read(
        &self,
        _: u64,
        _: Wanted,
        _: u32,
    ) -> Result<LogPage, DatabaseError> {
        self.0.ping().await?;
        Err(DatabaseError::refused(ENGINE, NO))
    }
    pub(in super::super) async fn head(&self) -> Result<LogHead, DatabaseError> {
        self.0.ping().await?;
        Err(DatabaseError::refused(ENGINE, NO))
    }
    pub(in super::super) async fn trim(&self, _: Timestamp) -> Result<u64, DatabaseError> {
        self.0.ping().await?;
        Err(DatabaseError::refused(ENGINE, NO))
    }
}
