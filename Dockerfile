FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/orchestrator /usr/local/bin/orchestrator
# Its user may write here: the store and the development key stand in data/.
WORKDIR /home/nonroot
ENV ORCHESTRATION_SERVER__LISTEN=0.0.0.0:8000
EXPOSE 8000
ENTRYPOINT ["orchestrator"]
