-- Roles before the first migration: psql -v password=… -v database=… -f roles.sql, in that
-- database, as a superuser or as an owner who may create roles.
-- The service logs in as `orchestrator`, which owns nothing and takes on one of the others for
-- each thing that it does.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['orch_app', 'orch_writer', 'orch_worker', 'orch_purge', 'orchestrator'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
    -- Whoever owns the database migrates it, and needs no right to make roles then.
    EXECUTE format('GRANT orch_app, orch_writer, orch_worker, orch_purge TO %I',
        (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()));
END
$$;
GRANT orch_app, orch_writer, orch_worker, orch_purge TO orchestrator;
ALTER ROLE orchestrator LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'password';
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO orchestrator, orch_app, orch_writer, orch_worker, orch_purge;
