# The demo's worker, broker and client in one small image. `docker-compose.yml` runs a worker and a client.
#
# Other registries or mirrors: --build-arg BUILD_IMAGE=… --build-arg RUNTIME_IMAGE=…
# The first needs cargo and a linker, the second the same C library and `find`, `grep` and `sh`.
ARG BUILD_IMAGE=rust:1.95-slim-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
WORKDIR /build

# The dependencies alone, so that a change of our own code does not build them again: the manifests are real, and what
# they describe is empty.
COPY Cargo.toml Cargo.lock ./
COPY xero/Cargo.toml xero/
COPY xero-macros/Cargo.toml xero-macros/
COPY demo/Cargo.toml demo/
COPY tests/Cargo.toml tests/
RUN set -eu; \
    for package in xero xero-macros demo tests; do \
        mkdir -p "$package/src"; \
        touch "$package/src/lib.rs"; \
        sed -n '/^\[\[bench\]\]/,/^$/s/^name = "\(.*\)"/\1/p' "$package/Cargo.toml" | while read -r bench; do \
            mkdir -p "$package/benches"; \
            echo 'fn main() {}' > "$package/benches/$bench.rs"; \
        done; \
    done; \
    echo 'fn main() {}' > demo/src/main.rs; \
    cargo build --locked --release -p xero-demo

COPY README.md ./
COPY xero xero
COPY xero-macros xero-macros
COPY demo demo
# What stands in for our own code is as new as the real one: without a touch, cargo may take it for built.
RUN find xero xero-macros demo -name '*.rs' -exec touch {} + \
    && cargo build --locked --release -p xero-demo --bins

FROM ${RUNTIME_IMAGE}
COPY --from=build /build/target/release/demo-worker /build/target/release/demo-broker \
    /build/target/release/demo-client /build/target/release/xero-demo /usr/local/bin/
# A number, so that an orchestrator can see that it is not root; nothing is written, so it owns nothing.
USER 10001:10001
STOPSIGNAL SIGTERM
# The tour needs no other container: `docker run --rm --init IMAGE` shows what there is.
CMD ["xero-demo"]
