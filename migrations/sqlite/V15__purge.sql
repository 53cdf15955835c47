-- A checkpoint goes once none of the 512 records before its end is kept, twice what one batch holds;
-- the newest of each log stays.
DROP TRIGGER checkpoints_keep_rows;
CREATE TRIGGER checkpoints_keep_rows BEFORE DELETE ON checkpoints
WHEN NOT EXISTS (SELECT 1 FROM checkpoints WHERE log = OLD.log AND size > OLD.size)
    OR EXISTS (SELECT 1 FROM leaves JOIN decisions ON decisions.id = leaves.decision
               WHERE leaves.log = OLD.log AND leaves.place < OLD.size
               AND leaves.place >= OLD.size - 512 AND decisions.record <> '')
BEGIN SELECT RAISE(ABORT, 'checkpoints of kept records and the newest of each log are append-only'); END;

-- Which revisions serve, or did lately: their sources are kept although no record names them.
CREATE TABLE served (
    revision TEXT PRIMARY KEY,
    at_ms    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX decisions_by_revision ON decisions (revision) WHERE record <> '';
