-- What a policy grants to a role its members have too, where they inherit it: a login that may take on
-- every role would see every tenant's rows without one. Each policy asks for the role itself.
DO $$
DECLARE
    open record;
    itself text;
BEGIN
    FOR open IN SELECT * FROM pg_policies WHERE schemaname = current_schema()
        AND (qual = 'true' OR with_check = 'true')
    LOOP
        itself := format('current_user = ANY (%L::name[])', open.roles);
        EXECUTE format('ALTER POLICY %I ON %I', open.policyname, open.tablename)
            || CASE WHEN open.qual = 'true' THEN format(' USING (%s)', itself) ELSE '' END
            || CASE WHEN open.with_check = 'true' THEN format(' WITH CHECK (%s)', itself) ELSE '' END;
    END LOOP;
END $$;
