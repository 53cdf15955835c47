-- A record is only emptied by a purge, which says so in the custody of the decision first; never while
-- it or its tenant is held, and never on the day of its decision.
CREATE FUNCTION refuse_all_but_told_purge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.at_ms > (extract(epoch FROM clock_timestamp()) - 86400) * 1000 THEN
        RAISE EXCEPTION 'a record is kept for a day at least';
    END IF;
    IF EXISTS (SELECT FROM holds WHERE tenant = OLD.tenant AND evidence IN ('', OLD.id)) THEN
        RAISE EXCEPTION 'the record is held';
    END IF;
    IF NOT EXISTS (SELECT FROM custody
                   WHERE evidence = OLD.id AND tenant = OLD.tenant AND action = 'purged') THEN
        RAISE EXCEPTION 'a purge is told in custody before it empties a record';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER decisions_tell_of_purges BEFORE UPDATE OF record ON decisions FOR EACH ROW
    WHEN (OLD.record <> '') EXECUTE FUNCTION refuse_all_but_told_purge();
CREATE POLICY heeded ON custody FOR SELECT TO orch_purge USING (true);
GRANT SELECT (evidence, tenant, action) ON custody TO orch_purge;
