//! Generates the gRPC server, client and message types from `proto/`, without an installed protoc.

use std::{env, error::Error, fs, path::PathBuf};

const PROTO_ROOT: &str = "proto";
const FILES: [&str; 8] = [
    "reservd/v1/event_service.proto",
    "reservd/v1/reservation_service.proto",
    "reservd/v1/waitlist_service.proto",
    "reservd/v1/session_service.proto",
    "reservd/v1/feed_service.proto",
    "reservd/v1/caller_service.proto",
    "reservd/v1/error_reason.proto",
    "reservd/diagnostics/v1alpha1/diagnostics_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO_ROOT}");
    // `migrate!` embeds the migrations but does not watch their folder.
    println!("cargo:rerun-if-changed=migrations");

    let mut compiler = protox::Compiler::new([PROTO_ROOT])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(FILES)?;

    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("reservd_descriptor.bin");
    fs::write(descriptors, compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        // Ordered maps have a deterministic encoding, which the fingerprint of a request needs.
        .btree_map(".")
        // `rpc::pb` has a `Debug` for it that omits the secret.
        .skip_debug(["reservd.v1.CreateSessionResponse"])
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
