//! Read all stored bars of a range, in columns.

use futures::stream::{BoxStream, StreamExt as _};
use jiff::Timestamp;

use super::require_synced;
use crate::common::mediator::{Handler, Request};
use crate::domain::shared::Series;
use crate::features::market_data::ReadError;
use crate::infrastructure::persistence::{BarColumns, Database};

/// Read the final bars of a series, oldest first, in chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportBars {
    /// Which series.
    pub series: Series,
    /// Only bars that open at or after it.
    pub start: Option<Timestamp>,
    /// Only bars that open before it.
    pub end: Option<Timestamp>,
    /// Bars a chunk at most.
    pub chunk_size: u32,
}

/// One chunk of an export.
#[derive(Debug)]
pub struct BarExport {
    /// Whose bars.
    pub series: Series,
    /// The bars.
    pub columns: BarColumns,
}

/// Chunks as they are read.
pub type BarExportStream = BoxStream<'static, Result<BarExport, ReadError>>;

impl Request for ExportBars {
    type Output = BarExportStream;
    type Error = ReadError;
    const NAME: &'static str = "market_data.export_bars";
}

pub(super) struct ExportBarsHandler {
    pub(super) database: Database,
}

impl Handler<ExportBars> for ExportBarsHandler {
    async fn handle(&self, query: ExportBars) -> Result<BarExportStream, ReadError> {
        let ExportBars { series, start, end, chunk_size } = query;
        require_synced(&self.database, &series).await?;
        let chunks = self.database.bars().export(&series, start, end, chunk_size);
        let named = move |columns: Result<BarColumns, _>| {
            Ok(BarExport { series: series.clone(), columns: columns? })
        };
        Ok(chunks.map(named).boxed())
    }
}
