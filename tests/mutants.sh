#!/usr/bin/env bash
# Plants small bugs in the rules, one at a time, and fails if the unit tests of the rules let one pass. What may pass,
# and why, is in tests/mutants.toml.
#
# The rules need nothing of the rest of reservd, so here they are a crate of their own: each bug is built in seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo mutants --version >/dev/null 2>&1 || { echo "first: cargo install --locked cargo-mutants"; exit 1; }

crate=${CARGO_TARGET_DIR:-target}/mutants/domain
rm -rf "$crate"
mkdir -p "$crate/src"
cp -R src/domain "$crate/src/"
echo 'pub mod domain;' >"$crate/src/lib.rs"
cp Cargo.lock "$crate/"
cat >"$crate/Cargo.toml" <<'TOML'
[workspace]

[package]
name = "domain"
version = "0.1.0"
edition = "2024"

[dependencies]
serde = { version = "1", features = ["derive"] }
uuid = { version = "1", features = ["v7", "v8"] }
humantime = "2"

[dev-dependencies]
proptest = { version = "1", default-features = false, features = ["std"] }
TOML

export PROPTEST_RNG_SEED=1 PROPTEST_CASES="${PROPTEST_CASES:-256}" PROPTEST_DISABLE_FAILURE_PERSISTENCE=1
exec cargo mutants --dir "$crate" --config tests/mutants.toml --output "${crate%/*}" --file 'src/domain/decide/**' \
  --timeout 30 "$@"
