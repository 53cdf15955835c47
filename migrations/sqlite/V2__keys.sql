-- API keys. The secret is never here, only its keyed hash; roles and scopes are names joined by
-- commas, NULL where the key claims none.
CREATE TABLE keys (
    sequence      INTEGER PRIMARY KEY AUTOINCREMENT,
    prefix        TEXT NOT NULL UNIQUE,
    hash          BLOB NOT NULL CHECK (length(hash) = 32),
    tenant        TEXT,
    roles         TEXT,
    scopes        TEXT,
    max_priority  TEXT,
    label         TEXT NOT NULL,
    created_by    TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    revoked_at_ms INTEGER,
    replaced_by   TEXT
) STRICT;
CREATE INDEX keys_by_tenant ON keys (tenant, sequence);
CREATE TRIGGER keys_stay_revoked BEFORE UPDATE ON keys
WHEN OLD.revoked_at_ms IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a revoked key does not come back'); END;
CREATE TRIGGER keys_keep_their_grant
BEFORE UPDATE OF prefix, hash, tenant, roles, scopes, max_priority ON keys
BEGIN SELECT RAISE(ABORT, 'what a key grants does not change'); END;
