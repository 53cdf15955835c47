-- orch_app serves one tenant at a time and sees only its rows; orch_writer adds decisions and sees
-- none; orch_worker does what concerns every tenant. Roles belong to the server: another database
-- may have made them.
DO $$
DECLARE
    wanted text;
    is_super boolean := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
BEGIN
    FOREACH wanted IN ARRAY ARRAY['orch_app', 'orch_writer', 'orch_worker'] LOOP
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
