-- What serves at each instance, as it said last.
CREATE TABLE instances (
    id         TEXT PRIMARY KEY,
    revision   TEXT NOT NULL,
    generation BIGINT NOT NULL,
    wanted     TEXT NOT NULL,
    loaded_at  TEXT NOT NULL,
    seen_at_ms BIGINT NOT NULL
);
ALTER TABLE instances ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY every ON instances TO orch_worker USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON instances TO orch_worker;

-- A group that would begin where it stands is forgotten where others want its place.
GRANT DELETE ON event_groups TO orch_app, orch_worker;
