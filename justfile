# Thin names for the scripts; everything works without `just`.

# Every test
test *args:
    scripts/test {{args}}

# What a change must pass
ci:
    .ci/run

# Format and lint as CI does
lint:
    cargo fmt --all
    cargo clippy --locked --all-targets --features bench -- -D warnings

# Licences, bans and sources by cargo-deny (cargo install cargo-deny --locked)
deny:
    # cargo-deny reads the packages of every platform; a build fetches its own only.
    cargo fetch --locked
    cargo deny --offline check licenses bans sources

# The optimised binary
release: deny
    cargo build --release --locked

# Builds the Dockerfile without a Docker engine and asks the image (root; Debian's buildah, debootstrap)
image-check:
    scripts/image-check

# The service against the floor; writes docs/benchmarks.md
bench *note:
    scripts/bench {{note}}

# A thousand bundles, a thousand overlays, ten thousand tenants: what they cost
scale:
    scripts/scale

# Recall and false positives of the envelope WAF on a published corpus
waf-corpus:
    scripts/waf-corpus

# What a policy evaluation costs, inline and on a policy thread
policy-cost:
    scripts/policy-cost

# The claims B-09 and B-12 of the design, measured
policy-claims:
    scripts/policy-claims

# Before a release: ten thousand policies that fail, none of which may allow
mutations:
    POLICY_MUTATIONS=10000 cargo test --release --locked --lib policy::tests::mutations -- --nocapture

# Before a release: a thousand edits under load, none of which may fail or mix an answer
reloads:
    cargo build --release --locked
    RELOADS=1000 SERVICE_BINARY=$PWD/target/release/orchestrator cargo test --locked --test it -- reload::storm::edits --nocapture

# Before a release: the smallest answer while a thousand policy files are loaded again and again
live-reloads:
    cargo build --release --locked
    LIVE_FILES=1000 LIVE_SAMPLES=20000 SERVICE_BINARY=$PWD/target/release/orchestrator cargo test --locked --test it -- reload::live --nocapture

# Before a release: a hundred thousand tenants that do not exist make no series
cardinality:
    CARDINALITY=100000 cargo test --release --locked --test it -- cardinality --nocapture

# Before a release: 5 400 random answers under random tables, each acted on as a model says
actions:
    ACTIONS_EACH=12 cargo test --locked --test it -- actions::random --nocapture

# Before a release: ten thousand operations of two tenants, none of which sees the other
isolation:
    ISOLATION=10000 cargo test --locked --test it -- isolation --nocapture

# Before a release: the service killed 100 times over each store, PostgreSQL 20 times, Redis 100 times, 10 000 random
# faults of store, spool and power; strict records a second (B-06); a start over 10^6 records
durability:
    EVIDENCE_FAULTS=10000 cargo test --release --locked --lib -- evidence:: --nocapture
    cargo build --release --locked
    DURABILITY=100 RECORDS_SECONDS=10 LOG_ROWS=1000000 SERVICE_BINARY=$PWD/target/release/orchestrator \
        cargo test --release --locked --test it -- durability --nocapture --test-threads 1

# Before a release: jobs over two instances, each killed 50 times, PostgreSQL 100 times, Redis and NATS 100 times
# each (killed, wiped, hung); three instances replaced under load. In a build without optimisation.
jobs kills="100" instances="3":
    tests/nats/install
    tests/nginx/install
    DURABILITY={{kills}} ROLLING={{instances}} cargo test --locked --test it -- instances:: rolling:: --nocapture --test-threads 1

# Before a release, ten minutes: detectors with every fault, five times the load, a noisy tenant; one table
faults seconds="2":
    tests/real/install
    cargo build --release --locked
    cargo test --release --locked --test it --no-run
    rm -f target/faults.md
    # The service on one half of the cores, who loads it on the other: neither measures the other.
    FAULTS_TABLE=$PWD/target/faults.md FAULTS_SECONDS={{seconds}} SERVICE_BINARY=$PWD/scripts/half \
        taskset -c $(($(nproc) / 2))-$(($(nproc) - 1)) \
        cargo test --release --locked --test it -- faults --nocapture --test-threads 1; code=$?; cat target/faults.md; exit $code

# Before a release, eleven minutes: slow connections beside good clients, and hostile texts; one table
edge seconds="60" connections="1000":
    cargo build --release --locked
    cargo test --release --locked --test it --no-run
    rm -f target/edge.md
    # The service on one half of the cores, who loads it on the other: neither measures the other.
    ulimit -n 8192; FAULTS_TABLE=$PWD/target/edge.md EDGE_SECONDS={{seconds}} EDGE_CONNECTIONS={{connections}} \
        SERVICE_BINARY=$PWD/scripts/half taskset -c $(($(nproc) / 2))-$(($(nproc) - 1)) \
        cargo test --release --locked --test it -- edge:: --nocapture --test-threads 1; code=$?; cat target/edge.md; exit $code

# The claims B-01 to B-04, B-07, B-08, B-10 and B-11 of the design; writes their part of docs/benchmarks.md
claims *note:
    cargo build --release --locked
    scripts/claims {{note}}

# Before a release: what a tenant feels of another one's hostile policy
hostile-policies:
    cargo build --release --locked
    HOSTILE_SECONDS=10 SERVICE_BINARY=$PWD/target/release/orchestrator cargo test --locked --test it -- hostile_policies --nocapture

# Every figure of docs/quality, from packages; or of one detector (pii, injection, …)
quality *names:
    scripts/quality {{names}}

# Before a release: the feature ml, an ONNX classifier behind prompt-injection
ml:
    cargo test --locked --features ml --lib -- detect::builtin detect::tests
    cargo clippy --locked --all-targets --features bench,ml -- -D warnings

# Trains the small ONNX model that `just quality injection-onnx` measures beside the linear one
network:
    scripts/quality-network

# Before a release: each fuzz target for ten minutes
fuzz seconds="600" *targets:
    fuzz/run {{seconds}} {{targets}}

# Before a release: ten thousand requests made from our own OpenAPI document; 0 may be 5xx or break it
contract requests="10000":
    tests/contract/run {{requests}}

# Before a release: ten thousand changes of what is recorded; each must be found
tamper tampers="10000":
    TAMPERS={{tampers}} cargo test --release --locked --test it -- tamper:: --nocapture

# Before a release: a million jobs of ten thousand tenants on a hundred instances that fall, on virtual time
simulation seed="1":
    SIMULATION=full SIMULATION_SEED={{seed}} CARGO_PROFILE_TEST_OPT_LEVEL=2 \
        cargo test --locked --lib -- jobs::tests::simulation --nocapture
