//! Serves stored bars: page by page, or all of them in columns.

mod export_bars;
mod get_bars;
mod wire;

pub use export_bars::{BarExport, BarExportStream, ExportBars};
pub use get_bars::{BarPage, GetBars};

use self::export_bars::ExportBarsHandler;
use self::get_bars::GetBarsHandler;
use super::{LiveSeries, ReadError, Sessions};
use crate::common::mediator::MediatorBuilder;
use crate::domain::shared::Series;
use crate::infrastructure::persistence::{Database, SeriesCache};

/// Adds this slice's handlers.
pub fn register(
    mediator: MediatorBuilder,
    database: &Database,
    cache: &SeriesCache,
    sessions: &Sessions,
    live: &LiveSeries,
) -> MediatorBuilder {
    mediator
        .register(GetBarsHandler {
            database: database.clone(),
            cache: cache.clone(),
            sessions: sessions.clone(),
            live: live.clone(),
        })
        .register(ExportBarsHandler { database: database.clone() })
}

/// Passes where `series` has a bar or was synced once; what lies in a range is another question.
async fn require_synced(database: &Database, series: &Series) -> Result<(), ReadError> {
    if database.bars().summary(series).await?.has_any {
        return Ok(());
    }
    let status = database.sync_statuses().get(series).await?;
    if status.as_ref().is_some_and(|status| status.last_sync_at.is_some()) {
        return Ok(());
    }
    Err(ReadError::not_synced(series.clone(), status))
}
