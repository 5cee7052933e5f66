//! `pocketquant.v1.System`.

use tonic::Request;

use crate::common::grpc::{GrpcResult, command, query};
use crate::common::idempotency::Idempotency;
use crate::common::mediator::Mediator;
use crate::features::market_data::jobs::{ListJobs, RunJob};
use crate::features::market_data::status::{GetHealth, GetServerInfo};
use crate::proto::v1 as pb;
use crate::proto::v1::system_server::System;

/// Answers `System` RPCs by sending commands and queries.
#[derive(Clone, Debug)]
pub struct SystemGrpc {
    mediator: Mediator,
    idempotency: Idempotency,
}

impl SystemGrpc {
    /// Serves through `mediator`; commands are carried out by `idempotency`.
    pub const fn new(mediator: Mediator, idempotency: Idempotency) -> Self {
        Self { mediator, idempotency }
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

    async fn list_jobs(
        &self,
        request: Request<pb::ListJobsRequest>,
    ) -> GrpcResult<pb::ListJobsResponse> {
        query::<ListJobs, _, _>(&self.mediator, request).await
    }

    async fn run_job(&self, request: Request<pb::RunJobRequest>) -> GrpcResult<pb::RunJobResponse> {
        command::<RunJob, _, _>(&self.mediator, &self.idempotency, request).await
    }
}
