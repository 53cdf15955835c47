-- What decisions were made of, by its SHA-256; an empty tenant is everyone's.
CREATE TABLE sources (
    tenant TEXT NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    bytes  BLOB NOT NULL,
    PRIMARY KEY (tenant, digest)
) STRICT;
CREATE TRIGGER sources_keep_values BEFORE UPDATE ON sources
BEGIN SELECT RAISE(ABORT, 'a source does not change'); END;
