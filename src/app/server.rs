//! The gRPC server: its services, their limits, and the layers around them.

use std::time::Duration;

use tonic::transport::Server;
use tonic::transport::server::Router;
use tower::layer::util::{Identity, Stack};

use super::guard::Guard;
use crate::common::constants::{MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES};
use crate::common::grpc::CallLayer;
use crate::common::health::HealthCoordinator;
use crate::common::idempotency::Idempotency;
use crate::common::identity::AuthenticationLayer;
use crate::common::mediator::Mediator;
use crate::common::rate_limit::RateLimitLayer;
use crate::common::shutdown::Lifecycle;
use crate::features::market_data::grpc::{MarketDataGrpc, QuoteStreamGrpc, SystemGrpc};
use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::v1::market_data_server::MarketDataServer;
use crate::proto::v1::quote_stream_server::QuoteStreamServer;
use crate::proto::v1::system_server::SystemServer;

/// Calls that one connection may have in flight.
const STREAMS_PER_CONNECTION: u32 = 256;
/// Streams that a client may reset before its connection is closed.
const RESETS_PER_CONNECTION: usize = 256;
/// How often a silent connection is asked whether it lives, and how long it may take to say so.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// The layers around every service, innermost first.
type Layers = Stack<RateLimitLayer, Stack<AuthenticationLayer, Stack<CallLayer, Identity>>>;

/// Every service, with its limits, behind the layers of a call.
pub(super) fn router(
    mediator: &Mediator,
    idempotency: &Idempotency,
    health: &HealthCoordinator,
    lifecycle: &Lifecycle,
    guard: Guard,
) -> anyhow::Result<Router<Layers>> {
    let market_data = MarketDataGrpc::new(mediator.clone(), idempotency.clone(), lifecycle.clone());
    let market_data = MarketDataServer::new(market_data)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let quotes = QuoteStreamGrpc::new(mediator.clone(), idempotency.clone());
    let quotes = QuoteStreamServer::new(quotes)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let system = SystemServer::new(SystemGrpc::new(mediator.clone()))
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // Without it grpcurl cannot print error details.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let mut server = Server::builder();
    if let Some(tls) = guard.tls {
        server = server.tls_config(tls)?;
    }
    Ok(server
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_local_error_reset_streams(Some(RESETS_PER_CONNECTION))
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .layer(CallLayer)
        .layer(guard.authentication)
        .layer(guard.limits)
        .add_service(health.server())
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(market_data)
        .add_service(quotes)
        .add_service(system))
}
