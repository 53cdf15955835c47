-- What happened, written with what it tells of. Numbers are given afterwards, in order: sequence among
-- all, own_sequence among those of its tenant; an empty tenant is nobody's. `tells` is the end of a job
-- with a callback.
CREATE TABLE events (
    place        INTEGER PRIMARY KEY AUTOINCREMENT,
    id           BLOB NOT NULL UNIQUE CHECK (length(id) = 32),
    tenant       TEXT NOT NULL,
    event_type   TEXT NOT NULL,
    at_ms        INTEGER NOT NULL,
    source       TEXT NOT NULL,
    data         TEXT NOT NULL,
    tells        INTEGER NOT NULL CHECK (tells IN (0, 1)),
    sequence     INTEGER,
    own_sequence INTEGER CHECK ((own_sequence IS NULL) = (sequence IS NULL)),
    published    INTEGER NOT NULL DEFAULT 0 CHECK (published IN (0, 1))
) STRICT;
CREATE UNIQUE INDEX events_by_sequence ON events (sequence) WHERE sequence IS NOT NULL;
CREATE UNIQUE INDEX events_by_tenant ON events (tenant, own_sequence) WHERE sequence IS NOT NULL;
CREATE INDEX events_by_type ON events (tenant, event_type, sequence);
CREATE INDEX events_telling ON events (sequence) WHERE tells = TRUE AND sequence IS NOT NULL;
CREATE INDEX events_without_number ON events (place) WHERE sequence IS NULL;
CREATE INDEX events_to_publish ON events (sequence) WHERE published = 0 AND sequence IS NOT NULL;
CREATE INDEX events_to_purge ON events (at_ms) WHERE published = 1;

-- The last number given in a stream: a tenant's, an empty one nobody's, `*` all.
CREATE TABLE event_counters (
    stream TEXT PRIMARY KEY,
    last   INTEGER NOT NULL
) STRICT;

-- Groups and the last event that each was given; `*callbacks` is the stream of what tells.
CREATE TABLE event_groups (
    stream TEXT NOT NULL,
    name   TEXT NOT NULL,
    cursor INTEGER NOT NULL,
    PRIMARY KEY (stream, name)
) STRICT, WITHOUT ROWID;

-- What a group was given and has not acknowledged.
CREATE TABLE event_deliveries (
    stream     TEXT NOT NULL,
    name       TEXT NOT NULL,
    sequence   INTEGER NOT NULL,
    id         BLOB NOT NULL,
    count      INTEGER NOT NULL,
    sent_at_ms INTEGER NOT NULL,
    due_ms     INTEGER NOT NULL,
    dead       INTEGER NOT NULL DEFAULT 0 CHECK (dead IN (0, 1)),
    PRIMARY KEY (stream, name, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX event_deliveries_by_sequence ON event_deliveries (sequence);
