//! The gRPC server: its services, their limits, and the layers around them.

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::service::Routes;
use tower::Layer as _;

use crate::common::constants::{MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES};
use crate::common::grpc::{CallLayer, CallService, Load};
use crate::common::health::HealthCoordinator;
use crate::common::mediator::Mediator;
use crate::common::shutdown::Lifecycle;
use crate::features::market_data::grpc::{MarketDataGrpc, QuoteStreamGrpc, SystemGrpc};
use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::v1::market_data_server::MarketDataServer;
use crate::proto::v1::quote_stream_server::QuoteStreamServer;
use crate::proto::v1::system_server::SystemServer;

/// What is served, by descriptor set.
const CONTRACTS: [&[u8]; 4] = [
    FILE_DESCRIPTOR_SET,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

/// Counts what is served.
pub(super) fn load() -> anyhow::Result<Load> {
    let mut streaming = Vec::new();
    for contract in CONTRACTS {
        for file in FileDescriptorSet::decode(contract)?.file {
            for service in &file.service {
                let path =
                    |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
                let streams = service.method.iter().filter(|method| method.server_streaming());
                streaming.extend(streams.map(|method| path(method.name())));
            }
        }
    }
    Ok(Load::new(streaming))
}

/// Every service, with its limits, behind the layers of a call.
pub(super) fn service(
    mediator: &Mediator,
    health: &HealthCoordinator,
    lifecycle: &Lifecycle,
    load: Load,
) -> anyhow::Result<CallService<Routes>> {
    let market_data = MarketDataGrpc::new(mediator.clone(), lifecycle.clone());
    let market_data = MarketDataServer::new(market_data)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let quotes = QuoteStreamGrpc::new(mediator.clone(), lifecycle.tracker().clone());
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
    let routes = Routes::new(health.server())
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(market_data)
        .add_service(quotes)
        .add_service(system)
        .prepare();
    Ok(CallLayer::new(load).layer(routes))
}
