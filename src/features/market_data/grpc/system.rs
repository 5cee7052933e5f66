//! `pocketquant.v1.System`.

use tonic::Request;

use crate::common::grpc::{GrpcResult, query};
use crate::common::mediator::Mediator;
use crate::features::market_data::status::{GetHealth, GetServerInfo};
use crate::proto::v1 as pb;
use crate::proto::v1::system_server::System;

/// Answers `System` RPCs by sending queries.
#[derive(Clone, Debug)]
pub struct SystemGrpc {
    mediator: Mediator,
}

impl SystemGrpc {
    /// Serves through `mediator`.
    pub const fn new(mediator: Mediator) -> Self {
        Self { mediator }
    }
}

#[tonic::async_trait]
impl System for SystemGrpc {
    async fn get_health(
        &self,
        request: Request<pb::GetHealthRequest>,
    ) -> GrpcResult<pb::GetHealthResponse> {
        query::<GetHealth, _, _>(&self.mediator, request).await
    }

    async fn get_server_info(
        &self,
        request: Request<pb::GetServerInfoRequest>,
    ) -> GrpcResult<pb::GetServerInfoResponse> {
        query::<GetServerInfo, _, _>(&self.mediator, request).await
    }
}
