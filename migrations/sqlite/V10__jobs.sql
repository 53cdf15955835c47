-- Work that waits. Payload, callback and result are sealed; the payload goes when the job ends, but
-- that of a dead letter (failed, with a payload) is kept for a while.
CREATE TABLE jobs (
    place         INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    tenant        TEXT NOT NULL,
    key           BLOB CHECK (length(key) = 32),
    job_type      TEXT NOT NULL,
    priority      TEXT NOT NULL,
    cost          INTEGER NOT NULL CHECK (cost > 0),
    state         TEXT NOT NULL CHECK
        (state IN ('queued', 'running', 'paused', 'completed', 'failed', 'cancelled')),
    version       INTEGER NOT NULL CHECK (version > 0),
    attempts      INTEGER NOT NULL CHECK (attempts >= 0),
    progress      REAL NOT NULL CHECK (progress BETWEEN 0 AND 1),
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    not_before_ms INTEGER,
    expires_at_ms INTEGER,
    retry_at_ms   INTEGER NOT NULL,
    callback      BLOB,
    error_code    TEXT,
    error_message TEXT,
    fence         INTEGER NOT NULL CHECK (fence >= 0),
    worker        TEXT CHECK ((worker IS NOT NULL) = (state = 'running')),
    payload       BLOB CHECK (payload IS NOT NULL OR state IN ('completed', 'failed', 'cancelled'))
) STRICT;
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
    number     INTEGER NOT NULL CHECK (number > 0),
    tenant     TEXT NOT NULL,
    from_state TEXT,
    to_state   TEXT NOT NULL,
    at_ms      INTEGER NOT NULL,
    actor      TEXT NOT NULL,
    reason     TEXT NOT NULL,
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE job_attempts (
    job           TEXT NOT NULL,
    fence         INTEGER NOT NULL CHECK (fence > 0),
    tenant        TEXT NOT NULL,
    number        INTEGER NOT NULL,
    worker        TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL,
    ended_at_ms   INTEGER,
    how           TEXT CHECK ((how IS NULL) = (ended_at_ms IS NULL)),
    error_code    TEXT,
    error_message TEXT,
    PRIMARY KEY (job, fence)
) STRICT, WITHOUT ROWID;

-- The one effect of a job.
CREATE TABLE completions (
    job    TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    fence  INTEGER NOT NULL,
    at_ms  INTEGER NOT NULL,
    result BLOB
) STRICT;
CREATE INDEX completions_to_erase ON completions (at_ms) WHERE result IS NOT NULL;

-- Who carries jobs out, and how often it was heard of.
CREATE TABLE workers (
    id   TEXT PRIMARY KEY,
    beat INTEGER NOT NULL
) STRICT;
