//! Generates the gRPC server, client and message types from `proto/`, without an installed protoc; and finds the version.

#[path = "src/build/commit.rs"]
mod commit;

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
    println!("cargo:rustc-env=BUILD_VERSION={}", version()?);
    Ok(())
}

/// The version with the commit: the one of BUILD_COMMIT, where git is not there to ask, or of the sources. Only a
/// release has it: a developer's build would begin again after each commit.
fn version() -> Result<String, Box<dyn Error>> {
    println!("cargo:rerun-if-changed=.git_archival.txt");
    println!("cargo:rerun-if-env-changed=BUILD_COMMIT");
    let number = env::var("CARGO_PKG_VERSION")?;
    let given = env::var("BUILD_COMMIT").ok().filter(|commit| !commit.is_empty());
    if given.is_none() && env::var("PROFILE")? != "release" {
        return Ok(format!("{number} (development build)"));
    }
    let found = given.or_else(|| {
        let commit = commit::commit(&PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?))?;
        commit.files.iter().for_each(|file| println!("cargo:rerun-if-changed={}", file.display()));
        Some(commit.id)
    });
    Ok(found.map_or_else(|| number.clone(), |commit| format!("{number} ({commit})")))
}
