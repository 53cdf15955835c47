-- Acts are chained by hashes, one chain per tenant and one of those without. Rows of earlier releases
-- are chained when the file is opened.
ALTER TABLE audit ADD COLUMN event TEXT;
ALTER TABLE audit ADD COLUMN previous_hash BLOB CHECK (length(previous_hash) = 32);
ALTER TABLE audit ADD COLUMN hash BLOB CHECK (length(hash) = 32);
CREATE INDEX audit_not_chained ON audit (tenant, sequence) WHERE hash IS NULL;
DROP TRIGGER audit_keeps_values;
CREATE TRIGGER audit_keeps_values
BEFORE UPDATE OF sequence, tenant, at_ms, actor, action, target, reason, before, after ON audit
BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER audit_keeps_links BEFORE UPDATE OF event, previous_hash, hash ON audit
WHEN OLD.hash IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;

-- Who saw, checked or took a decision's evidence; the first entry of each is the decision itself.
CREATE TABLE custody (
    evidence      TEXT NOT NULL,
    seq           INTEGER NOT NULL CHECK (seq > 1),
    tenant        TEXT NOT NULL,
    at_ms         INTEGER NOT NULL,
    action        TEXT NOT NULL,
    actor         TEXT NOT NULL,
    actor_type    TEXT NOT NULL,
    details       TEXT NOT NULL,
    previous_hash BLOB NOT NULL CHECK (length(previous_hash) = 32),
    hash          BLOB NOT NULL CHECK (length(hash) = 32),
    log_id        TEXT NOT NULL,
    signature     BLOB NOT NULL CHECK (length(signature) = 64),
    PRIMARY KEY (evidence, seq)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER custody_keeps_rows BEFORE DELETE ON custody
BEGIN SELECT RAISE(ABORT, 'custody is append-only'); END;
CREATE TRIGGER custody_keeps_values BEFORE UPDATE ON custody
BEGIN SELECT RAISE(ABORT, 'custody is append-only'); END;

-- What must not be purged; an empty evidence is the whole tenant.
CREATE TABLE holds (
    tenant   TEXT NOT NULL,
    evidence TEXT NOT NULL,
    at_ms    INTEGER NOT NULL,
    actor    TEXT NOT NULL,
    reason   TEXT NOT NULL,
    PRIMARY KEY (tenant, evidence)
) STRICT, WITHOUT ROWID;

-- A decision only ever loses its record, which is empty from then on.
CREATE INDEX decisions_to_purge ON decisions (tenant, at_ms) WHERE record <> '';
CREATE TRIGGER decisions_lose_records_only BEFORE UPDATE OF record ON decisions
WHEN NEW.record <> ''
BEGIN SELECT RAISE(ABORT, 'a decision only loses its record'); END;
CREATE TRIGGER decisions_keep_values
BEFORE UPDATE OF sequence, id, tenant, request_id, at_ms, policy, revision, action, complete
ON decisions
BEGIN SELECT RAISE(ABORT, 'a decision only loses its record'); END;
CREATE TRIGGER decisions_keep_rows BEFORE DELETE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are kept'); END;
