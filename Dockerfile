FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin orchestrator \
    && install -D target/release/orchestrator /out/orchestrator \
    && mkdir /out/data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/orchestrator /usr/local/bin/orchestrator
# A volume mounted here starts with this folder's owner: the user of the image, 65532.
COPY --from=build --chown=65532:65532 /out/data /home/nonroot/data
WORKDIR /home/nonroot
ENV ORCHESTRATION_SERVER__LISTEN=0.0.0.0:8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["orchestrator", "health"]
ENTRYPOINT ["orchestrator"]
