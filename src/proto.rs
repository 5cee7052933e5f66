//! Code generated from `proto/` by `build.rs`: the public contract, in Rust.
#![allow(
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    rustdoc::all,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated"
)]

/// Package `pocketquant.v1`.
pub mod v1 {
    tonic::include_proto!("pocketquant.v1");

    // The server's side: see `build.rs`.
    include!(concat!(env!("OUT_DIR"), "/servers/pocketquant.v1.rs"));
}

/// Every message and service in `proto/` and what they import, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("descriptors");
