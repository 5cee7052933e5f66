//! Compiles `proto/` with protox (pure Rust), so no `protoc` binary is needed.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

const PROTOS: &[&str] = &[
    "pocketquant/v1/common.proto",
    "pocketquant/v1/market_data.proto",
    "pocketquant/v1/system.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(PROTOS)?;
    // `compile_fds` ignores `file_descriptor_set_path`: reflection needs the bytes written here.
    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(descriptors, compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
