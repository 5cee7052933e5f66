//! The gRPC server: its services, their limits, and the layers around them.

use tonic::service::Routes;
use tower::Layer as _;

use super::access::{Method, methods};
use super::guard::Guard;
use crate::common::constants::{MAX_PROBE_BYTES, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES};
use crate::common::grpc::{
    CallLayer, CallService, Load, LoadShed, LoadShedLayer, Methods, Requests, RequestsLayer,
};
use crate::common::health::HealthCoordinator;
use crate::common::idempotency::Idempotency;
use crate::common::identity::Authentication;
use crate::common::mediator::Mediator;
use crate::common::rate_limit::RateLimit;
use crate::common::shutdown::Lifecycle;
use crate::features::market_data::grpc::{MarketDataGrpc, QuoteStreamGrpc, SystemGrpc};
use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::v1::market_data_server::MarketDataServer;
use crate::proto::v1::quote_stream_server::QuoteStreamServer;
use crate::proto::v1::system_server::SystemServer;

/// Counts what is served.
pub(super) fn load() -> Load {
    Load::new(methods().iter().filter(|method| method.streaming).map(Method::path))
}

/// The services with all that is around them.
type Guarded = CallService<Authentication<RateLimit<LoadShed<Requests<Routes>>>>>;

/// Every service that is served, described.
const DESCRIPTORS: [&[u8]; 4] = [
    FILE_DESCRIPTOR_SET,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

/// Every service, with its limits, behind the layers of a call.
pub(super) fn service(
    mediator: &Mediator,
    idempotency: &Idempotency,
    health: &HealthCoordinator,
    lifecycle: &Lifecycle,
    guard: &Guard,
    load: Load,
) -> anyhow::Result<Guarded> {
    let market_data = MarketDataGrpc::new(mediator.clone(), idempotency.clone(), lifecycle.clone());
    let market_data = MarketDataServer::new(market_data)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let quotes = QuoteStreamGrpc::new(mediator.clone(), idempotency.clone());
    let quotes = QuoteStreamServer::new(quotes)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let system = SystemServer::new(SystemGrpc::new(mediator.clone(), idempotency.clone()))
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // Without it grpcurl cannot print error details.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = Routes::new(health.server().max_decoding_message_size(MAX_PROBE_BYTES))
        .add_service(reflection().build_v1()?.max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(reflection().build_v1alpha()?.max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(market_data)
        .add_service(quotes)
        .add_service(system)
        .prepare();
    let methods = Methods::declared(&DESCRIPTORS)?;
    let requests = RequestsLayer::new(methods.clone(), lifecycle.draining()).layer(routes);
    let counted = LoadShedLayer::new(load).layer(requests);
    let guarded = guard.authentication.layer(guard.limits.layer(counted));
    Ok(CallLayer::new(methods).layer(guarded))
}
