-- Credentials of detectors, sealed; an empty tenant is for every tenant. A row without a seal was
-- taken back; it stays, so that the highest sequence grows with every change.
CREATE TABLE detector_secrets (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant   TEXT NOT NULL,
    detector TEXT NOT NULL,
    kind     TEXT NOT NULL,
    sealed   BLOB,
    at_ms    INTEGER NOT NULL,
    UNIQUE (tenant, detector)
) STRICT;
