//! `pocketquant.v1.System`.

use tonic::Request;

use crate::common::grpc::{GrpcResult, command, command_withholding, query};
use crate::common::idempotency::Idempotency;
use crate::common::mediator::Mediator;
use crate::features::market_data::jobs::{ListJobs, RunJob};
use crate::features::market_data::status::{GetHealth, GetServerInfo};
use crate::features::market_data::webhooks::{
    CreateWebhook, DeleteWebhook, EnableWebhook, ListDeliveries, ListEvents, ListWebhooks,
    withhold_secret,
};
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

    async fn list_events(
        &self,
        request: Request<pb::ListEventsRequest>,
    ) -> GrpcResult<pb::ListEventsResponse> {
        query::<ListEvents, _, _>(&self.mediator, request).await
    }

    async fn create_webhook(
        &self,
        request: Request<pb::CreateWebhookRequest>,
    ) -> GrpcResult<pb::Webhook> {
        let (mediator, idempotency) = (&self.mediator, &self.idempotency);
        command_withholding::<CreateWebhook, _, _>(mediator, idempotency, request, withhold_secret)
            .await
    }

    async fn list_webhooks(
        &self,
        request: Request<pb::ListWebhooksRequest>,
    ) -> GrpcResult<pb::ListWebhooksResponse> {
        query::<ListWebhooks, _, _>(&self.mediator, request).await
    }

    async fn enable_webhook(
        &self,
        request: Request<pb::EnableWebhookRequest>,
    ) -> GrpcResult<pb::Webhook> {
        command::<EnableWebhook, _, _>(&self.mediator, &self.idempotency, request).await
    }

    async fn delete_webhook(&self, request: Request<pb::DeleteWebhookRequest>) -> GrpcResult<()> {
        command::<DeleteWebhook, _, _>(&self.mediator, &self.idempotency, request).await
    }

    async fn list_deliveries(
        &self,
        request: Request<pb::ListDeliveriesRequest>,
    ) -> GrpcResult<pb::ListDeliveriesResponse> {
        query::<ListDeliveries, _, _>(&self.mediator, request).await
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
