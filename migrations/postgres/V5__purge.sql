-- A checkpoint goes once none of the 512 records before its end is kept, twice what one batch holds;
-- the newest of each log stays.
DROP TRIGGER checkpoints_keep_rows ON checkpoints;
CREATE TRIGGER checkpoints_keep_values BEFORE UPDATE OR TRUNCATE ON checkpoints
    EXECUTE FUNCTION refuse_change('checkpoints are append-only');
CREATE FUNCTION refuse_needed_checkpoint() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM checkpoints WHERE log = OLD.log AND size > OLD.size)
        OR EXISTS (SELECT FROM leaves JOIN decisions ON decisions.id = leaves.decision
                   WHERE leaves.log = OLD.log AND leaves.place < OLD.size
                   AND leaves.place >= OLD.size - 512 AND NOT decisions.purged) THEN
        RAISE EXCEPTION 'checkpoints of kept records and the newest of each log are append-only';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER checkpoints_keep_rows BEFORE DELETE ON checkpoints FOR EACH ROW
    EXECUTE FUNCTION refuse_needed_checkpoint();
CREATE POLICY seen ON logs FOR SELECT TO orch_purge USING (true);
CREATE POLICY seen ON leaves FOR SELECT TO orch_purge USING (true);
CREATE POLICY emptied ON checkpoints TO orch_purge USING (true);
GRANT SELECT (number, id) ON logs TO orch_purge;
GRANT SELECT (log, place, decision) ON leaves TO orch_purge;
GRANT SELECT (log, size, at_ms), DELETE ON checkpoints TO orch_purge;
GRANT SELECT (revision) ON decisions TO orch_purge;

-- Which revisions serve, or did lately: their sources are kept although no record names them.
CREATE TABLE served (
    revision TEXT PRIMARY KEY,
    at_ms    BIGINT NOT NULL
);
ALTER TABLE served ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY every ON served TO orch_worker USING (true);
CREATE POLICY heeded ON served FOR SELECT TO orch_purge USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON served TO orch_worker;
GRANT SELECT ON served TO orch_purge;
CREATE INDEX decisions_by_revision ON decisions (revision) WHERE NOT purged;
CREATE POLICY unnamed ON sources TO orch_purge USING (true);
GRANT SELECT (tenant, digest), DELETE ON sources TO orch_purge;
