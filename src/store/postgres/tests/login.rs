//! What the service's login sees before it takes on a role.

use super::*;

#[tokio::test]
async fn a_login_sees_no_rows_until_it_takes_on_a_role() {
    let server = Server::shared();
    let owner = options(server);
    migrate(&owner, false).unwrap();
    let (name, login) = (name(&owner), format!("login_{}", name(&owner)));
    let roles = "orch_app, orch_writer, orch_worker, orch_purge";
    server.sql("postgres", &format!("CREATE ROLE {login} LOGIN; GRANT {roles} TO {login}"));
    let service = PostgresOptions { url: server.url(&login, &name).into(), ..owner };
    let store = Postgres::open(&service).unwrap();
    record(&store, [decision("d-1", "acme"), decision("d-2", "globex")]).await.unwrap();
    store.append(AuditEntry { reason: "x".into(), ..entry("acme") }).await.unwrap();
    let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' \
                  AND tablename <> 'refinery_schema_history'";
    let is_login = format!("SET SESSION AUTHORIZATION {login};");
    let tables = server.sql(&name, tables);
    assert!(tables.contains("decisions") && tables.contains("audit"), "{tables}");
    for table in tables.lines() {
        let seen = format!("{is_login} SELECT count(*) FROM {table}");
        match server.try_sql(&name, &seen) {
            Ok(count) => assert_eq!(count, "0", "{table}"),
            Err(told) => assert!(told.contains("permission denied"), "{table}: {told}"),
        }
    }
    let purge = format!("{is_login} SET ROLE orch_purge; SELECT count(tenant) FROM decisions");
    assert_eq!(server.sql(&name, &purge), "2");
    let own = "SET ROLE orch_app; SET app.tenant = 'acme'; SELECT count(*) FROM decisions";
    assert_eq!(server.sql(&name, &format!("{is_login} {own}")), "1");
}
