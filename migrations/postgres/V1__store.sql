-- orch_app serves one tenant at a time and sees only its rows; orch_writer adds decisions and sees
-- none; orch_worker does what concerns every tenant; orch_purge takes expired records away and reads
-- none. Roles belong to the server: another database may have made them.
DO $$
DECLARE
    wanted text;
    is_super boolean := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
BEGIN
    FOREACH wanted IN ARRAY ARRAY['orch_app', 'orch_writer', 'orch_worker', 'orch_purge'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
        BEGIN
            IF NOT is_super THEN
                EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
            END IF;
        EXCEPTION WHEN insufficient_privilege THEN
            IF NOT pg_has_role(current_user, wanted, 'MEMBER') THEN
                RAISE;
            END IF;
        END;
    END LOOP;
END $$;

GRANT SELECT ON refinery_schema_history TO orch_worker;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0];
END $$;

-- Decisions hold no content: spans, categories and reasons only.
CREATE TABLE decisions (
    sequence   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    tenant     TEXT NOT NULL,
    request_id TEXT NOT NULL,
    at_ms      BIGINT NOT NULL,
    policy     TEXT NOT NULL,
    revision   TEXT NOT NULL,
    action     TEXT NOT NULL,
    complete   BOOLEAN NOT NULL,
    record     TEXT NOT NULL
);
CREATE INDEX decisions_by_tenant ON decisions (tenant, sequence);
ALTER TABLE decisions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON decisions FOR SELECT TO orch_app
    USING (tenant = current_setting('app.tenant', true));
CREATE POLICY added ON decisions FOR INSERT TO orch_writer WITH CHECK (true);
GRANT SELECT ON decisions TO orch_app;
GRANT INSERT ON decisions TO orch_writer;

CREATE TABLE audit (
    sequence BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant   TEXT,
    at_ms    BIGINT NOT NULL,
    actor    TEXT NOT NULL,
    action   TEXT NOT NULL,
    target   TEXT NOT NULL,
    reason   TEXT NOT NULL,
    before   TEXT,
    after    TEXT
);
CREATE INDEX audit_by_tenant ON audit (tenant, sequence);
CREATE TRIGGER audit_keeps_rows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    EXECUTE FUNCTION refuse_change('audit is append-only');
ALTER TABLE audit ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON audit TO orch_app
    USING (tenant = current_setting('app.tenant', true));
CREATE POLICY every ON audit TO orch_worker USING (true);
GRANT SELECT, INSERT ON audit TO orch_app, orch_worker;

-- One row per version; the highest version is the current one, a tombstone has no body.
-- An empty tenant is the shared scope.
CREATE TABLE objects (
    sequence BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind     TEXT NOT NULL,
    tenant   TEXT NOT NULL,
    name     TEXT NOT NULL,
    version  BIGINT NOT NULL CHECK (version > 0),
    at_ms    BIGINT NOT NULL,
    etag     TEXT NOT NULL,
    body     TEXT,
    UNIQUE (kind, tenant, name, version)
);
ALTER TABLE objects ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON objects TO orch_app
    USING (tenant = current_setting('app.tenant', true));
CREATE POLICY every ON objects TO orch_worker USING (true);
GRANT SELECT, INSERT, DELETE ON objects TO orch_app, orch_worker;

-- API keys. The secret is never here, only its keyed hash; roles and scopes are names joined by
-- commas, NULL where the key claims none.
CREATE TABLE keys (
    sequence      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    prefix        TEXT NOT NULL UNIQUE,
    hash          BYTEA NOT NULL CHECK (octet_length(hash) = 32),
    tenant        TEXT,
    roles         TEXT,
    scopes        TEXT,
    max_priority  TEXT,
    label         TEXT NOT NULL,
    created_by    TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT,
    revoked_at_ms BIGINT,
    replaced_by   TEXT
);
CREATE INDEX keys_by_tenant ON keys (tenant, sequence);
CREATE TRIGGER keys_stay_revoked BEFORE UPDATE ON keys FOR EACH ROW
    WHEN (OLD.revoked_at_ms IS NOT NULL)
    EXECUTE FUNCTION refuse_change('a revoked key does not come back');
CREATE TRIGGER keys_keep_their_grant
    BEFORE UPDATE OF prefix, hash, tenant, roles, scopes, max_priority ON keys
    EXECUTE FUNCTION refuse_change('what a key grants does not change');
ALTER TABLE keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON keys FOR SELECT TO orch_app
    USING (tenant = current_setting('app.tenant', true));
CREATE POLICY every ON keys TO orch_worker USING (true);
GRANT SELECT ON keys TO orch_app;
GRANT SELECT, INSERT, UPDATE (expires_at_ms, revoked_at_ms, replaced_by) ON keys TO orch_worker;

-- How much each tenant has had judged in one hour of the clock; written in batches.
CREATE TABLE usage (
    tenant TEXT PRIMARY KEY,
    hour   BIGINT NOT NULL CHECK (hour >= 0),
    used   BIGINT NOT NULL CHECK (used >= 0)
);
ALTER TABLE usage ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY every ON usage TO orch_worker USING (true);
GRANT SELECT, INSERT, UPDATE ON usage TO orch_worker;

-- Credentials of detectors, sealed; an empty tenant is for every tenant, an empty origin for a
-- file's detector; that of a registered one goes to one address alone. A row without a seal was taken
-- back; it stays, so that the highest sequence grows with every change.
CREATE TABLE detector_secrets (
    sequence   BIGINT GENERATED ALWAYS AS IDENTITY,
    tenant     TEXT NOT NULL,
    detector   TEXT NOT NULL,
    origin     TEXT NOT NULL,
    registered BOOLEAN GENERATED ALWAYS AS (origin <> '') STORED,
    kind       TEXT NOT NULL,
    sealed     BYTEA,
    at_ms      BIGINT NOT NULL,
    PRIMARY KEY (tenant, detector, registered)
);
ALTER TABLE detector_secrets ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY every ON detector_secrets TO orch_worker USING (true);
GRANT SELECT, INSERT, UPDATE ON detector_secrets TO orch_worker;

-- Work under an idempotency key: who carries it out until when, and the sealed answer once there is
-- one. Key and request are keyed hashes; an answer opens only with the request that it answers.
CREATE TABLE claims (
    tenant          TEXT NOT NULL,
    key             BYTEA NOT NULL CHECK (octet_length(key) = 32),
    request         BYTEA NOT NULL CHECK (octet_length(request) = 32),
    owner           BYTEA NOT NULL CHECK (octet_length(owner) = 16),
    leased_until_ms BIGINT NOT NULL,
    forget_at_ms    BIGINT NOT NULL,
    answer          BYTEA,
    PRIMARY KEY (tenant, key)
);
CREATE INDEX claims_by_end ON claims (forget_at_ms);
ALTER TABLE claims ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON claims TO orch_app
    USING (tenant = current_setting('app.tenant', true));
CREATE POLICY ended ON claims TO orch_worker USING (true);
GRANT SELECT, INSERT, UPDATE ON claims TO orch_app;
GRANT SELECT (tenant, key, forget_at_ms), DELETE ON claims TO orch_worker;

-- A log of records (RFC 6962): leaves and the complete subtrees of 256, 65536, … of them, and the
-- signed heads, one a batch. Leaves stay when the record they prove is purged.
CREATE TABLE logs (
    number     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    public_key BYTEA NOT NULL CHECK (octet_length(public_key) = 32),
    since_ms   BIGINT NOT NULL
);
CREATE TABLE leaves (
    log      BIGINT NOT NULL,
    place    BIGINT NOT NULL CHECK (place >= 0),
    hash     BYTEA NOT NULL CHECK (octet_length(hash) = 32),
    decision TEXT NOT NULL UNIQUE,
    tenant   TEXT NOT NULL,
    PRIMARY KEY (log, place)
);
CREATE TABLE nodes (
    log   BIGINT NOT NULL,
    level BIGINT NOT NULL CHECK (level > 0),
    place BIGINT NOT NULL CHECK (place >= 0),
    hash  BYTEA NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (log, level, place)
);
CREATE TABLE checkpoints (
    log       BIGINT NOT NULL,
    size      BIGINT NOT NULL CHECK (size > 0),
    root      BYTEA NOT NULL CHECK (octet_length(root) = 32),
    at_ms     BIGINT NOT NULL,
    signature BYTEA NOT NULL CHECK (octet_length(signature) = 64),
    PRIMARY KEY (log, size)
);
CREATE TRIGGER logs_keep_rows BEFORE UPDATE OR DELETE OR TRUNCATE ON logs
    EXECUTE FUNCTION refuse_change('logs are append-only');
CREATE TRIGGER leaves_keep_rows BEFORE UPDATE OR DELETE OR TRUNCATE ON leaves
    EXECUTE FUNCTION refuse_change('leaves are append-only');
CREATE TRIGGER nodes_keep_rows BEFORE UPDATE OR DELETE OR TRUNCATE ON nodes
    EXECUTE FUNCTION refuse_change('nodes are append-only');
CREATE TRIGGER checkpoints_keep_rows BEFORE UPDATE OR DELETE OR TRUNCATE ON checkpoints
    EXECUTE FUNCTION refuse_change('checkpoints are append-only');
ALTER TABLE logs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE leaves ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE nodes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE checkpoints ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY every ON logs TO orch_app, orch_writer, orch_worker USING (true);
CREATE POLICY own ON leaves FOR SELECT TO orch_app
    USING (tenant = current_setting('app.tenant', true));
CREATE POLICY added ON leaves FOR INSERT TO orch_writer WITH CHECK (true);
CREATE POLICY every ON leaves FOR SELECT TO orch_worker USING (true);
CREATE POLICY added ON nodes FOR INSERT TO orch_writer WITH CHECK (true);
CREATE POLICY every ON nodes FOR SELECT TO orch_worker USING (true);
CREATE POLICY every ON checkpoints TO orch_writer, orch_worker USING (true);
GRANT SELECT ON logs TO orch_app, orch_writer, orch_worker;
GRANT INSERT ON logs TO orch_worker;
GRANT SELECT ON leaves TO orch_app, orch_worker;
GRANT INSERT ON leaves TO orch_writer;
GRANT SELECT ON nodes TO orch_worker;
GRANT INSERT ON nodes TO orch_writer;
GRANT SELECT ON checkpoints TO orch_writer, orch_worker;
GRANT INSERT ON checkpoints TO orch_writer;

-- What decisions were made of, by its SHA-256; an empty tenant is everyone's.
CREATE TABLE sources (
    tenant TEXT NOT NULL,
    digest BYTEA NOT NULL CHECK (octet_length(digest) = 32),
    bytes  BYTEA NOT NULL,
    PRIMARY KEY (tenant, digest)
);
CREATE TRIGGER sources_keep_values BEFORE UPDATE ON sources
    EXECUTE FUNCTION refuse_change('a source does not change');
ALTER TABLE sources ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON sources FOR SELECT TO orch_app
    USING (tenant IN ('', current_setting('app.tenant', true)));
CREATE POLICY every ON sources TO orch_worker USING (true);
GRANT SELECT ON sources TO orch_app;
GRANT SELECT, INSERT ON sources TO orch_worker;

-- Acts are chained by hashes, one chain per tenant and one of those without.
ALTER TABLE audit
    ADD COLUMN event         TEXT NOT NULL,
    ADD COLUMN previous_hash BYTEA NOT NULL CHECK (octet_length(previous_hash) = 32),
    ADD COLUMN hash          BYTEA NOT NULL CHECK (octet_length(hash) = 32);

-- Who saw, checked or took a decision's evidence; the first entry of each is the decision itself.
CREATE TABLE custody (
    evidence      TEXT NOT NULL,
    seq           BIGINT NOT NULL CHECK (seq > 1),
    tenant        TEXT NOT NULL,
    at_ms         BIGINT NOT NULL,
    action        TEXT NOT NULL,
    actor         TEXT NOT NULL,
    actor_type    TEXT NOT NULL,
    details       TEXT NOT NULL,
    previous_hash BYTEA NOT NULL CHECK (octet_length(previous_hash) = 32),
    hash          BYTEA NOT NULL CHECK (octet_length(hash) = 32),
    log_id        TEXT NOT NULL,
    signature     BYTEA NOT NULL CHECK (octet_length(signature) = 64),
    PRIMARY KEY (evidence, seq)
);
CREATE TRIGGER custody_keeps_rows BEFORE UPDATE OR DELETE OR TRUNCATE ON custody
    EXECUTE FUNCTION refuse_change('custody is append-only');
ALTER TABLE custody ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON custody TO orch_app USING (tenant = current_setting('app.tenant', true));
GRANT SELECT, INSERT ON custody TO orch_app;

-- What must not be purged; an empty evidence is the whole tenant.
CREATE TABLE holds (
    tenant   TEXT NOT NULL,
    evidence TEXT NOT NULL,
    at_ms    BIGINT NOT NULL,
    actor    TEXT NOT NULL,
    reason   TEXT NOT NULL,
    PRIMARY KEY (tenant, evidence)
);
ALTER TABLE holds ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON holds FOR SELECT TO orch_app
    USING (tenant = current_setting('app.tenant', true));
CREATE POLICY every ON holds TO orch_worker USING (true);
GRANT SELECT ON holds TO orch_app;
GRANT SELECT, INSERT, DELETE ON holds TO orch_worker;

-- A decision only ever loses its record, which is empty from then on.
ALTER TABLE decisions ADD COLUMN purged BOOLEAN GENERATED ALWAYS AS (record = '') STORED;
CREATE INDEX decisions_to_purge ON decisions (tenant, at_ms) WHERE NOT purged;
CREATE FUNCTION refuse_all_but_purge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.record <> '' OR to_jsonb(NEW) - ARRAY['record', 'purged']
        IS DISTINCT FROM to_jsonb(OLD) - ARRAY['record', 'purged'] THEN
        RAISE EXCEPTION 'a decision only loses its record';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER decisions_keep_values BEFORE UPDATE ON decisions FOR EACH ROW
    EXECUTE FUNCTION refuse_all_but_purge();
CREATE TRIGGER decisions_keep_rows BEFORE DELETE OR TRUNCATE ON decisions
    EXECUTE FUNCTION refuse_change('decisions are kept');
CREATE POLICY emptied ON decisions TO orch_purge USING (true);
CREATE POLICY heeded ON holds FOR SELECT TO orch_purge USING (true);
GRANT SELECT (sequence, id, tenant, at_ms, purged), UPDATE (record) ON decisions TO orch_purge;
GRANT SELECT ON holds TO orch_purge;

-- Jobs and events.
-- Work that waits. Payload, callback and result are sealed; the payload goes when the job ends, but
-- that of a dead letter (failed, with a payload) is kept for a while.
CREATE TABLE jobs (
    place         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    tenant        TEXT NOT NULL,
    key           BYTEA CHECK (octet_length(key) = 32),
    job_type      TEXT NOT NULL,
    priority      TEXT NOT NULL,
    cost          BIGINT NOT NULL CHECK (cost > 0),
    state         TEXT NOT NULL CHECK
        (state IN ('queued', 'running', 'paused', 'completed', 'failed', 'cancelled')),
    version       BIGINT NOT NULL CHECK (version > 0),
    attempts      BIGINT NOT NULL CHECK (attempts >= 0),
    progress      DOUBLE PRECISION NOT NULL CHECK (progress BETWEEN 0 AND 1),
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    not_before_ms BIGINT,
    expires_at_ms BIGINT,
    retry_at_ms   BIGINT NOT NULL,
    callback      BYTEA,
    error_code    TEXT,
    error_message TEXT,
    fence         BIGINT NOT NULL CHECK (fence >= 0),
    worker        TEXT CHECK ((worker IS NOT NULL) = (state = 'running')),
    payload       BYTEA CHECK (payload IS NOT NULL OR state IN ('completed', 'failed', 'cancelled'))
);
CREATE UNIQUE INDEX jobs_by_key ON jobs (tenant, key) WHERE key IS NOT NULL;
CREATE INDEX jobs_by_tenant ON jobs (tenant, place);
CREATE INDEX jobs_by_day ON jobs (tenant, created_at_ms);
CREATE INDEX jobs_waiting ON jobs (priority, tenant, place) WHERE state = 'queued';
CREATE INDEX jobs_running ON jobs (worker) WHERE state = 'running';
CREATE INDEX jobs_expiring ON jobs (expires_at_ms)
    WHERE expires_at_ms IS NOT NULL AND state IN ('queued', 'paused');
CREATE INDEX jobs_dead ON jobs (updated_at_ms) WHERE state = 'failed' AND payload IS NOT NULL;
CREATE INDEX jobs_ended ON jobs (updated_at_ms) WHERE state IN ('completed', 'failed', 'cancelled');
CREATE TABLE job_transitions (
    job        TEXT NOT NULL,
    number     BIGINT NOT NULL CHECK (number > 0),
    tenant     TEXT NOT NULL,
    from_state TEXT,
    to_state   TEXT NOT NULL,
    at_ms      BIGINT NOT NULL,
    actor      TEXT NOT NULL,
    reason     TEXT NOT NULL,
    PRIMARY KEY (job, number)
);
CREATE TABLE job_attempts (
    job           TEXT NOT NULL,
    fence         BIGINT NOT NULL CHECK (fence > 0),
    tenant        TEXT NOT NULL,
    number        BIGINT NOT NULL,
    worker        TEXT NOT NULL,
    started_at_ms BIGINT NOT NULL,
    ended_at_ms   BIGINT,
    how           TEXT CHECK ((how IS NULL) = (ended_at_ms IS NULL)),
    error_code    TEXT,
    error_message TEXT,
    PRIMARY KEY (job, fence)
);
-- The one effect of a job.
CREATE TABLE completions (
    job    TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    fence  BIGINT NOT NULL,
    at_ms  BIGINT NOT NULL,
    result BYTEA
);
CREATE INDEX completions_to_erase ON completions (at_ms) WHERE result IS NOT NULL;
-- Who carries jobs out, and how often it was heard of.
CREATE TABLE workers (
    id   TEXT PRIMARY KEY,
    beat BIGINT NOT NULL
);
ALTER TABLE jobs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE job_transitions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE job_attempts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE completions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE workers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON jobs TO orch_app USING (tenant = current_setting('app.tenant', true));
CREATE POLICY own ON job_transitions TO orch_app
    USING (tenant = current_setting('app.tenant', true));
CREATE POLICY own ON job_attempts TO orch_app
    USING (tenant = current_setting('app.tenant', true));
CREATE POLICY own ON completions TO orch_app
    USING (tenant = current_setting('app.tenant', true));
CREATE POLICY every ON jobs TO orch_worker USING (true);
CREATE POLICY every ON job_transitions TO orch_worker USING (true);
CREATE POLICY every ON job_attempts TO orch_worker USING (true);
CREATE POLICY every ON completions TO orch_worker USING (true);
CREATE POLICY seen ON workers FOR SELECT TO orch_app USING (true);
CREATE POLICY every ON workers TO orch_worker USING (true);
GRANT SELECT, INSERT, UPDATE ON jobs TO orch_app;
GRANT SELECT, UPDATE, DELETE ON jobs TO orch_worker;
GRANT SELECT, INSERT ON job_transitions TO orch_app;
GRANT SELECT, INSERT, DELETE ON job_transitions TO orch_worker;
GRANT SELECT, INSERT, UPDATE ON job_attempts TO orch_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON job_attempts TO orch_worker;
GRANT SELECT, INSERT ON completions TO orch_app;
GRANT SELECT, UPDATE (result), DELETE ON completions TO orch_worker;
GRANT SELECT ON workers TO orch_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON workers TO orch_worker;

-- What happened, written with what it tells of. Numbers are given afterwards, in order: sequence among
-- all, own_sequence among those of its tenant; an empty tenant is nobody's. `tells` is the end of a job
-- with a callback.
CREATE TABLE events (
    place        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id           BYTEA NOT NULL UNIQUE CHECK (octet_length(id) = 32),
    tenant       TEXT NOT NULL,
    event_type   TEXT NOT NULL,
    at_ms        BIGINT NOT NULL,
    source       TEXT NOT NULL,
    data         TEXT NOT NULL,
    tells        BOOLEAN NOT NULL,
    sequence     BIGINT,
    own_sequence BIGINT CHECK ((own_sequence IS NULL) = (sequence IS NULL)),
    published    BOOLEAN NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX events_by_sequence ON events (sequence) WHERE sequence IS NOT NULL;
CREATE UNIQUE INDEX events_by_tenant ON events (tenant, own_sequence) WHERE sequence IS NOT NULL;
CREATE INDEX events_by_type ON events (tenant, event_type, sequence);
CREATE INDEX events_telling ON events (sequence) WHERE tells AND sequence IS NOT NULL;
CREATE INDEX events_without_number ON events (place) WHERE sequence IS NULL;
CREATE INDEX events_to_publish ON events (sequence) WHERE NOT published AND sequence IS NOT NULL;
CREATE INDEX events_to_purge ON events (at_ms) WHERE published;
-- The last number given in a stream: a tenant's, an empty one nobody's, `*` all.
CREATE TABLE event_counters (
    stream TEXT PRIMARY KEY,
    last   BIGINT NOT NULL
);
-- Groups and the last event that each was given; `*callbacks` is the stream of what tells.
CREATE TABLE event_groups (
    stream TEXT NOT NULL,
    name   TEXT NOT NULL,
    cursor BIGINT NOT NULL,
    PRIMARY KEY (stream, name)
);
-- What a group was given and has not acknowledged.
CREATE TABLE event_deliveries (
    stream     TEXT NOT NULL,
    name       TEXT NOT NULL,
    sequence   BIGINT NOT NULL,
    id         BYTEA NOT NULL,
    count      BIGINT NOT NULL,
    sent_at_ms BIGINT NOT NULL,
    due_ms     BIGINT NOT NULL,
    dead       BOOLEAN NOT NULL DEFAULT false,
    PRIMARY KEY (stream, name, sequence)
);
CREATE INDEX event_deliveries_by_sequence ON event_deliveries (sequence);
ALTER TABLE events ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE event_counters ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE event_groups ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE event_deliveries ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON events TO orch_app USING (tenant = current_setting('app.tenant', true));
CREATE POLICY own ON event_counters FOR SELECT TO orch_app
    USING (stream = current_setting('app.tenant', true));
CREATE POLICY own ON event_groups TO orch_app
    USING (stream = current_setting('app.tenant', true));
CREATE POLICY own ON event_deliveries TO orch_app
    USING (stream = current_setting('app.tenant', true));
CREATE POLICY every ON events TO orch_worker USING (true);
CREATE POLICY every ON event_counters TO orch_worker USING (true);
CREATE POLICY every ON event_groups TO orch_worker USING (true);
CREATE POLICY every ON event_deliveries TO orch_worker USING (true);
GRANT SELECT, INSERT ON events TO orch_app;
GRANT SELECT, INSERT, UPDATE (sequence, own_sequence, published), DELETE ON events TO orch_worker;
GRANT SELECT ON event_counters TO orch_app;
GRANT SELECT, INSERT, UPDATE ON event_counters TO orch_worker;
GRANT SELECT, INSERT, UPDATE ON event_groups TO orch_app, orch_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON event_deliveries TO orch_app, orch_worker;
