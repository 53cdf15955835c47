-- A log of records (RFC 6962): leaves and the complete subtrees of 256, 65536, … of them, and the
-- signed heads, one a batch. Leaves stay when the record they prove is purged.
CREATE TABLE logs (
    number     INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    public_key BLOB NOT NULL CHECK (length(public_key) = 32),
    since_ms   INTEGER NOT NULL
) STRICT;
CREATE TABLE leaves (
    log      INTEGER NOT NULL,
    place    INTEGER NOT NULL CHECK (place >= 0),
    hash     BLOB NOT NULL CHECK (length(hash) = 32),
    decision TEXT NOT NULL UNIQUE,
    tenant   TEXT NOT NULL,
    PRIMARY KEY (log, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE nodes (
    log   INTEGER NOT NULL,
    level INTEGER NOT NULL CHECK (level > 0),
    place INTEGER NOT NULL CHECK (place >= 0),
    hash  BLOB NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (log, level, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoints (
    log       INTEGER NOT NULL,
    size      INTEGER NOT NULL CHECK (size > 0),
    root      BLOB NOT NULL CHECK (length(root) = 32),
    at_ms     INTEGER NOT NULL,
    signature BLOB NOT NULL CHECK (length(signature) = 64),
    PRIMARY KEY (log, size)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER logs_keep_rows BEFORE DELETE ON logs
BEGIN SELECT RAISE(ABORT, 'logs are append-only'); END;
CREATE TRIGGER logs_keep_values BEFORE UPDATE ON logs
BEGIN SELECT RAISE(ABORT, 'logs are append-only'); END;
CREATE TRIGGER leaves_keep_rows BEFORE DELETE ON leaves
BEGIN SELECT RAISE(ABORT, 'leaves are append-only'); END;
CREATE TRIGGER leaves_keep_values BEFORE UPDATE ON leaves
BEGIN SELECT RAISE(ABORT, 'leaves are append-only'); END;
CREATE TRIGGER nodes_keep_rows BEFORE DELETE ON nodes
BEGIN SELECT RAISE(ABORT, 'nodes are append-only'); END;
CREATE TRIGGER nodes_keep_values BEFORE UPDATE ON nodes
BEGIN SELECT RAISE(ABORT, 'nodes are append-only'); END;
CREATE TRIGGER checkpoints_keep_rows BEFORE DELETE ON checkpoints
BEGIN SELECT RAISE(ABORT, 'checkpoints are append-only'); END;
CREATE TRIGGER checkpoints_keep_values BEFORE UPDATE ON checkpoints
BEGIN SELECT RAISE(ABORT, 'checkpoints are append-only'); END;
