-- A record is only emptied by a purge, which says so in the custody of the decision first; never while
-- it or its tenant is held, and never on the day of its decision.
CREATE TRIGGER decisions_stay_a_day BEFORE UPDATE OF record ON decisions
WHEN OLD.record <> ''
    AND OLD.at_ms > (CAST(strftime('%s', 'now') AS INTEGER) - 86400) * 1000
BEGIN SELECT RAISE(ABORT, 'a record is kept for a day at least'); END;
CREATE TRIGGER decisions_heed_holds BEFORE UPDATE OF record ON decisions
WHEN OLD.record <> '' AND EXISTS
    (SELECT 1 FROM holds WHERE tenant = OLD.tenant AND evidence IN ('', OLD.id))
BEGIN SELECT RAISE(ABORT, 'the record is held'); END;
CREATE TRIGGER decisions_tell_of_purges BEFORE UPDATE OF record ON decisions
WHEN OLD.record <> '' AND NOT EXISTS
    (SELECT 1 FROM custody WHERE evidence = OLD.id AND tenant = OLD.tenant AND action = 'purged')
BEGIN SELECT RAISE(ABORT, 'a purge is told in custody before it empties a record'); END;
