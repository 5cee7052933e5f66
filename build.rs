//! Compiles `proto/` with protox (pure Rust), so no `protoc` binary is needed.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost_types::FileDescriptorSet;
use tonic_prost_build::Builder;

const PROTOS: &[&str] = &[
    "pocketquant/v1/common.proto",
    "pocketquant/v1/market_data.proto",
    "pocketquant/v1/quote_stream.proto",
    "pocketquant/v1/system.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(PROTOS)?;
    // `compile_fds` ignores `file_descriptor_set_path`: reflection needs the bytes written here.
    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(descriptors, compiler.encode_file_descriptor_set())?;
    let configure = || {
        tonic_prost_build::configure().extern_path(".google.rpc.Status", "::tonic_types::Status")
    };
    configure().build_server(false).compile_fds(compiler.file_descriptor_set())?;
    servers(configure(), compiler.file_descriptor_set())
}

/// The server's side of the services. It sends the events of streams as bytes, which are encoded
/// once however many streams send them.
fn servers(builder: Builder, files: FileDescriptorSet) -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::var("OUT_DIR")?).join("servers");
    fs::create_dir_all(&folder)?;
    builder
        .build_client(false)
        .extern_path(".pocketquant.v1.QuoteEvent", "crate::common::grpc::Encoded")
        .extern_path(".pocketquant.v1.BarEvent", "crate::common::grpc::Encoded")
        .extern_path(".pocketquant.v1", "crate::proto::v1")
        .out_dir(folder)
        .compile_fds(files)?;
    Ok(())
}
