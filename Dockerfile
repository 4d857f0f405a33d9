# reservd in a container: a release build, then the one program on a small base, as an
# ordinary user. Nothing is downloaded when it runs. There is no PostgreSQL inside: give it
# one with DATABASE_URL, as compose.yaml does.

ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-slim-bookworm AS build
WORKDIR /build

# The dependencies alone, with nothing of ours: this layer lasts until the list of packages
# changes. What was built of the placeholders is removed, since cargo goes by times, and could
# take it for newer than the real sources.
COPY Cargo.toml Cargo.lock ./
# Cargo reads the manifests of the whole workspace; nothing of these two is built.
COPY bench/Cargo.toml bench/
COPY examples/demo/Cargo.toml examples/demo/
RUN mkdir src \
    && touch src/lib.rs \
    && echo 'fn main() {}' >src/main.rs \
    && cp src/main.rs build.rs \
    && cargo build --locked --release --bin reservd \
    && cargo clean --locked --release --package reservd \
    && rm -r src build.rs

COPY build.rs ./
COPY .git_archival.txt ./
COPY proto proto
COPY migrations migrations
COPY src src
# What `reservd --version` says, since git is not here: docker build --build-arg BUILD_COMMIT=$(git rev-parse --short=12 HEAD)
ARG BUILD_COMMIT=
# Stripped of what only a debugger reads, it is a sixth as long.
RUN BUILD_COMMIT=$BUILD_COMMIT cargo build --locked --release --bin reservd \
    && strip target/release/reservd

# As old as the system that it was built on; with the roots that TLS trusts. The user has a home,
# so that without DATABASE_URL it is PostgreSQL that is reported missing, and no folder.
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home reservd
USER 10001
COPY --from=build /build/target/release/reservd /usr/local/bin/reservd

# Others reach this address: it serves with TLS and authentication, or with the settings that name
# the risk of doing without (docs/SECURITY.md). The metrics stay on 127.0.0.1:9464, for the containers
# that share this one's network; compose.yaml shows how others get them.
ENV RESERVD_SERVER__LISTEN=0.0.0.0:50051
EXPOSE 50051

# It finds the server by the same settings: its port, and its certificate where TLS is on. With
# tls.client_certificates = "REQUIRED" it needs one too: RESERVD_CERTIFICATE and RESERVD_KEY name the files.
HEALTHCHECK --interval=10s --timeout=7s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/reservd", "healthcheck"]

# SIGTERM drains for up to server.drain_limit (20s): give `docker stop` more time than that.
ENTRYPOINT ["/usr/local/bin/reservd"]
CMD ["serve"]
