# The demo's programs in an image that holds nothing else. `docker-compose.yml` runs a worker and a client.
#
#     docker build --target demo -t xero-demo .
#
# Without a target it is the same image, for which the builder from before BuildKit also builds all that stands above the
# last line. That is why the stages `tests` and `faults`, which only the container tests need, come after the demo's.
#
# Another registry or mirror: --build-arg BUILD_IMAGE=… (cargo, a linker, the C library's static form). The C library must
# be glibc 2.34 or newer, or musl: static programs of an older glibc look names up through plug-ins that are not here.
# Where nothing can be pulled: `deploy/base-images` makes the images named here from what the machine has.
ARG BUILD_IMAGE=rust:1.95-slim-bookworm
ARG TOOLS_IMAGE=debian:bookworm-slim

# The dependencies alone, so that a change of our own code does not build them again: the manifests are real, and what
# they describe is empty.
FROM ${BUILD_IMAGE} AS dependencies
WORKDIR /build
# Static programs need no C library and no loader around them. Flags for a target named on the command line are not for
# what runs during the build, which cannot be static.
ENV RUSTFLAGS="-C target-feature=+crt-static"
COPY Cargo.toml Cargo.lock ./
COPY xero/Cargo.toml xero/
COPY xero-macros/Cargo.toml xero-macros/
COPY demo/Cargo.toml demo/
COPY tests/Cargo.toml tests/
COPY tests/planted/Cargo.toml tests/planted/
COPY tests/simulator/Cargo.toml tests/simulator/
COPY tests/wires/Cargo.toml tests/wires/
RUN set -eu; \
    for package in xero xero-macros demo tests tests/simulator tests/wires; do \
        mkdir -p "$package/src"; \
        touch "$package/src/lib.rs"; \
        for kind in bin:src/bin bench:benches test:tests; do \
            directory="$package/${kind#*:}"; \
            mkdir -p "$directory"; \
            sed -n "/^\[\[${kind%%:*}\]\]/,/^\$/s/^name = \"\(.*\)\"/\1/p" "$package/Cargo.toml" | while read -r name; do \
                echo 'fn main() {}' > "$directory/$name.rs"; \
            done; \
        done; \
    done; \
    echo 'fn main() {}' > demo/src/main.rs; \
    rustc -vV | sed -n 's/^host: //p' > /target; \
    cargo build --locked --release --target "$(cat /target)" -p xero-demo

FROM dependencies AS build
COPY README.md ./
COPY xero xero
COPY xero-macros xero-macros
COPY demo demo
# What stands in for our own code is as new as the real one: without a touch, cargo may take it for built.
RUN find xero xero-macros demo -name '*.rs' -exec touch {} + \
    && cargo build --locked --release --target "$(cat /target)" -p xero-demo --bins \
    && mkdir /programs \
    && find "target/$(cat /target)/release" -maxdepth 1 -type f -executable -exec cp -t /programs {} +

FROM scratch AS demo
COPY --from=build /programs /usr/local/bin
ENV PATH=/usr/local/bin
# A number, so that an orchestrator can see that it is not root; nothing is written, so it owns nothing.
USER 10001:10001
STOPSIGNAL SIGTERM
# The tour needs no other container: `docker run --rm --init IMAGE` shows what there is.
CMD ["xero-demo"]

# As above, for what makes a load: it has dependencies of its own, and other features of those that it shares.
FROM dependencies AS dependencies-tests
RUN cargo build --locked --release --target "$(cat /target)" -p xero-tests --bin crew

# The demo stays empty, because nothing of it is in this program.
FROM dependencies-tests AS build-tests
COPY README.md ./
COPY xero xero
COPY xero-macros xero-macros
COPY tests/src tests/src
RUN find xero xero-macros tests/src -name '*.rs' -exec touch {} + \
    && cargo build --locked --release --target "$(cat /target)" -p xero-tests --bin crew \
    && install -D -t /crew "target/$(cat /target)/release/crew"

# The demo's programs and those that make a load and keep a log of it.
FROM demo AS tests
COPY --from=build-tests /crew /usr/local/bin
CMD ["crew", "--help"]

# What loses packets and cuts links, within the network of another container.
FROM ${TOOLS_IMAGE} AS faults
RUN command -v nft || (apt-get update && apt-get install -y --no-install-recommends nftables && rm -rf /var/lib/apt/lists/*)
ENTRYPOINT ["nft"]

# Whoever names no stage means the demo.
FROM demo
