//! `pocketquant.v1.QuoteStream`.

use tonic::Request;

use crate::common::grpc::{Encoded, GrpcResult, GrpcStream, command, query, stream_query};
use crate::common::idempotency::Idempotency;
use crate::common::mediator::Mediator;
use crate::features::market_data::quote::{
    GetCurrentBar, GetFeedStatus, GetLatestQuote, ListQuotes, ListSubscriptions, StartFeed,
    StopFeed, StreamBars, StreamQuotes, Subscribe, Unsubscribe,
};
use crate::proto::v1 as pb;
use crate::proto::v1::quote_stream_server::QuoteStream;

/// Answers `QuoteStream` RPCs by sending commands and queries.
#[derive(Clone, Debug)]
pub struct QuoteStreamGrpc {
    mediator: Mediator,
    idempotency: Idempotency,
}

impl QuoteStreamGrpc {
    /// Serves through `mediator`; commands are carried out by `idempotency`.
    pub const fn new(mediator: Mediator, idempotency: Idempotency) -> Self {
        Self { mediator, idempotency }
    }
}

#[tonic::async_trait]
impl QuoteStream for QuoteStreamGrpc {
    async fn start_feed(
        &self,
        request: Request<pb::StartFeedRequest>,
    ) -> GrpcResult<pb::FeedStatus> {
        command::<StartFeed, _, _>(&self.mediator, &self.idempotency, request).await
    }

    async fn stop_feed(&self, request: Request<pb::StopFeedRequest>) -> GrpcResult<pb::FeedStatus> {
        command::<StopFeed, _, _>(&self.mediator, &self.idempotency, request).await
    }

    async fn get_feed_status(
        &self,
        request: Request<pb::GetFeedStatusRequest>,
    ) -> GrpcResult<pb::FeedStatus> {
        query::<GetFeedStatus, _, _>(&self.mediator, request).await
    }

    async fn subscribe(
        &self,
        request: Request<pb::SubscribeRequest>,
    ) -> GrpcResult<pb::Subscription> {
        command::<Subscribe, _, _>(&self.mediator, &self.idempotency, request).await
    }

    async fn unsubscribe(
        &self,
        request: Request<pb::UnsubscribeRequest>,
    ) -> GrpcResult<pb::Subscription> {
        command::<Unsubscribe, _, _>(&self.mediator, &self.idempotency, request).await
    }

    async fn list_subscriptions(
        &self,
        request: Request<pb::ListSubscriptionsRequest>,
    ) -> GrpcResult<pb::ListSubscriptionsResponse> {
        query::<ListSubscriptions, _, _>(&self.mediator, request).await
    }

    async fn get_latest_quote(
        &self,
        request: Request<pb::GetLatestQuoteRequest>,
    ) -> GrpcResult<pb::Quote> {
        query::<GetLatestQuote, _, _>(&self.mediator, request).await
    }

    async fn list_quotes(
        &self,
        request: Request<pb::ListQuotesRequest>,
    ) -> GrpcResult<pb::ListQuotesResponse> {
        query::<ListQuotes, _, _>(&self.mediator, request).await
    }

    async fn get_current_bar(
        &self,
        request: Request<pb::GetCurrentBarRequest>,
    ) -> GrpcResult<pb::Bar> {
        query::<GetCurrentBar, _, _>(&self.mediator, request).await
    }

    type StreamQuotesStream = GrpcStream<Encoded>;

    async fn stream_quotes(
        &self,
        request: Request<pb::StreamQuotesRequest>,
    ) -> GrpcResult<Self::StreamQuotesStream> {
        stream_query::<StreamQuotes, _, _, _, _>(&self.mediator, request).await
    }

    type StreamBarsStream = GrpcStream<Encoded>;

    async fn stream_bars(
        &self,
        request: Request<pb::StreamBarsRequest>,
    ) -> GrpcResult<Self::StreamBarsStream> {
        stream_query::<StreamBars, _, _, _, _>(&self.mediator, request).await
    }
}
