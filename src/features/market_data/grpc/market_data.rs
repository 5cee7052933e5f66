//! `pocketquant.v1.MarketData`.

use tonic::Request;

use crate::common::grpc::{GrpcResult, GrpcStream, command, query, stream_query, until_stopping};
use crate::common::idempotency::Idempotency;
use crate::common::mediator::Mediator;
use crate::common::shutdown::Lifecycle;
use crate::features::market_data::coverage::{GetCoverage, RepairGaps};
use crate::features::market_data::ohlcv::{ExportBars, GetBars};
use crate::features::market_data::status::{GetSyncStatus, ListSyncStatuses};
use crate::features::market_data::symbols::{GetSymbol, ListSymbols};
use crate::features::market_data::sync::{
    CancelSync, StartSync, SyncSymbol, SyncSymbols, WatchSync,
};
use crate::proto::v1 as pb;
use crate::proto::v1::market_data_server::MarketData;

/// Answers `MarketData` RPCs by sending commands and queries.
#[derive(Clone, Debug)]
pub struct MarketDataGrpc {
    mediator: Mediator,
    idempotency: Idempotency,
    lifecycle: Lifecycle,
}

impl MarketDataGrpc {
    /// Serves through `mediator`; commands are carried out by `idempotency`, and streams end as
    /// `lifecycle` says.
    pub const fn new(mediator: Mediator, idempotency: Idempotency, lifecycle: Lifecycle) -> Self {
        Self { mediator, idempotency, lifecycle }
    }
}

#[tonic::async_trait]
impl MarketData for MarketDataGrpc {
    async fn sync_symbol(
        &self,
        request: Request<pb::SyncSymbolRequest>,
    ) -> GrpcResult<pb::SyncResult> {
        command::<SyncSymbol, _, _>(&self.mediator, &self.idempotency, request).await
    }

    async fn start_sync(
        &self,
        request: Request<pb::StartSyncRequest>,
    ) -> GrpcResult<pb::StartSyncResponse> {
        command::<StartSync, _, _>(&self.mediator, &self.idempotency, request).await
    }

    type SyncSymbolsStream = GrpcStream<pb::SyncProgress>;

    async fn sync_symbols(
        &self,
        request: Request<pb::SyncSymbolsRequest>,
    ) -> GrpcResult<Self::SyncSymbolsStream> {
        let steps = stream_query::<SyncSymbols, _, _, _, _>(&self.mediator, request).await?;
        Ok(steps.map(|steps| until_stopping(steps, self.lifecycle.draining())))
    }

    type WatchSyncStream = GrpcStream<pb::SyncProgress>;

    async fn watch_sync(
        &self,
        request: Request<pb::WatchSyncRequest>,
    ) -> GrpcResult<Self::WatchSyncStream> {
        let steps = stream_query::<WatchSync, _, _, _, _>(&self.mediator, request).await?;
        Ok(steps.map(|steps| until_stopping(steps, self.lifecycle.draining())))
    }

    async fn cancel_sync(
        &self,
        request: Request<pb::CancelSyncRequest>,
    ) -> GrpcResult<pb::SyncProgress> {
        command::<CancelSync, _, _>(&self.mediator, &self.idempotency, request).await
    }

    async fn get_bars(
        &self,
        request: Request<pb::GetBarsRequest>,
    ) -> GrpcResult<pb::GetBarsResponse> {
        query::<GetBars, _, _>(&self.mediator, request).await
    }

    type ExportBarsStream = GrpcStream<pb::BarChunk>;

    async fn export_bars(
        &self,
        request: Request<pb::ExportBarsRequest>,
    ) -> GrpcResult<Self::ExportBarsStream> {
        let chunks = stream_query::<ExportBars, _, _, _, _>(&self.mediator, request).await?;
        Ok(chunks.map(|chunks| until_stopping(chunks, self.lifecycle.draining())))
    }

    async fn get_sync_status(
        &self,
        request: Request<pb::GetSyncStatusRequest>,
    ) -> GrpcResult<pb::SyncStatus> {
        query::<GetSyncStatus, _, _>(&self.mediator, request).await
    }

    async fn list_sync_statuses(
        &self,
        request: Request<pb::ListSyncStatusesRequest>,
    ) -> GrpcResult<pb::ListSyncStatusesResponse> {
        query::<ListSyncStatuses, _, _>(&self.mediator, request).await
    }

    async fn list_symbols(
        &self,
        request: Request<pb::ListSymbolsRequest>,
    ) -> GrpcResult<pb::ListSymbolsResponse> {
        query::<ListSymbols, _, _>(&self.mediator, request).await
    }

    async fn get_symbol(
        &self,
        request: Request<pb::GetSymbolRequest>,
    ) -> GrpcResult<pb::SymbolInfo> {
        query::<GetSymbol, _, _>(&self.mediator, request).await
    }
    async fn get_coverage(
        &self,
        request: Request<pb::GetCoverageRequest>,
    ) -> GrpcResult<pb::GetCoverageResponse> {
        query::<GetCoverage, _, _>(&self.mediator, request).await
    }

    async fn repair_gaps(
        &self,
        request: Request<pb::RepairGapsRequest>,
    ) -> GrpcResult<pb::RepairGapsResponse> {
        command::<RepairGaps, _, _>(&self.mediator, &self.idempotency, request).await
    }
}
