-- Decisions hold no content: spans, categories and reasons only.
CREATE TABLE decisions (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    tenant     TEXT NOT NULL,
    request_id TEXT NOT NULL,
    at_ms      INTEGER NOT NULL,
    policy     TEXT NOT NULL,
    revision   TEXT NOT NULL,
    action     TEXT NOT NULL,
    complete   INTEGER NOT NULL CHECK (complete IN (0, 1)),
    record     TEXT NOT NULL
) STRICT;
CREATE INDEX decisions_by_tenant ON decisions (tenant, sequence);

CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant   TEXT,
    at_ms    INTEGER NOT NULL,
    actor    TEXT NOT NULL,
    action   TEXT NOT NULL,
    target   TEXT NOT NULL,
    reason   TEXT NOT NULL,
    before   TEXT,
    after    TEXT
) STRICT;
CREATE INDEX audit_by_tenant ON audit (tenant, sequence);
CREATE TRIGGER audit_keeps_rows BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER audit_keeps_values BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;

-- One row per version; the highest version is the current one, a tombstone has no body.
-- An empty tenant is the shared scope.
CREATE TABLE objects (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    kind     TEXT NOT NULL,
    tenant   TEXT NOT NULL,
    name     TEXT NOT NULL,
    version  INTEGER NOT NULL CHECK (version > 0),
    at_ms    INTEGER NOT NULL,
    etag     TEXT NOT NULL,
    body     TEXT,
    UNIQUE (kind, tenant, name, version)
) STRICT;
