-- A credential of a detector that a tenant registered goes to one address alone, and is never that
-- of a file's detector of the same name. An empty origin is for a file's detector.
CREATE TABLE secrets_of_detectors (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant     TEXT NOT NULL,
    detector   TEXT NOT NULL,
    origin     TEXT NOT NULL DEFAULT '',
    registered INTEGER GENERATED ALWAYS AS (origin <> '') STORED,
    kind       TEXT NOT NULL,
    sealed     BLOB,
    at_ms      INTEGER NOT NULL,
    UNIQUE (tenant, detector, registered)
) STRICT;
INSERT INTO secrets_of_detectors (sequence, tenant, detector, kind, sealed, at_ms)
SELECT sequence, tenant, detector, kind, sealed, at_ms FROM detector_secrets;
DROP TABLE detector_secrets;
ALTER TABLE secrets_of_detectors RENAME TO detector_secrets;
