#!/bin/sh
# Makes target/dist/reservd-VERSION-TARGET.tar.gz of the release program and what one needs to run it, with checksums
# (SHA256SUMS) and a bill of materials (CycloneDX). Argument: the folder of the built program. `make release` runs it.
set -eu
programs=$1
cd "$(dirname "$0")/.."

cargo build --release --locked --quiet --package reservd
version=$("$programs/reservd" --version | awk '{ print $2 }')
target=$(rustc -vV | sed -n 's/^host: //p')
name=reservd-$version-$target
dist=target/dist
rm -rf "$dist"
mkdir -p "$dist/$name"

cp "$programs/reservd" "$dist/$name/"
strip "$dist/$name/reservd"
cp -R README.md CHANGELOG.md SECURITY.md docs proto "$dist/$name/"
mkdir "$dist/$name/deploy"
cp -R deploy/README.md deploy/kustomization.yaml deploy/*.sql deploy/kubernetes deploy/systemd deploy/prometheus \
    deploy/grafana "$dist/$name/deploy/"
cargo cyclonedx --format json --override-filename reservd.cdx --quiet
mv reservd.cdx.json "$dist/$name.cdx.json"
rm -f bench/reservd.cdx.json examples/demo/reservd.cdx.json

# The same bytes from the same commit: in order, with one time, and of nobody.
time=$(git log -1 --format=%ct)
tar --directory "$dist" --sort=name --mtime="@$time" --owner=0 --group=0 --numeric-owner --create "$name" |
    gzip --no-name >"$dist/$name.tar.gz"
rm -r "${dist:?}/$name"
(cd "$dist" && sha256sum "$name.tar.gz" "$name.cdx.json" >SHA256SUMS)
ls -l "$dist"
