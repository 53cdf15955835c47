//! Who owns the database and may do little else.

use super::*;

#[test]
fn an_owner_who_may_make_no_roles_is_told_what_to_grant_and_migrates_with_them() {
    let server = Server::start();
    let owner = options(&server);
    let name = name(&owner);
    let new = "CREATE ROLE plain LOGIN; ALTER DATABASE";
    server.sql("postgres", &format!("{new} {name} OWNER TO plain"));
    let plain = PostgresOptions { url: server.url("plain", &name).into(), ..owner };
    let told = |dry_run| migrate(&plain, dry_run).unwrap_err().to_string();
    let roles = "orch_app, orch_writer, orch_worker, orch_purge";
    assert!(told(true).contains("CREATE ROLE orch_app NOLOGIN; "), "{}", told(true));
    server.sql(
        "postgres",
        &roles.split(", ").map(|role| format!("CREATE ROLE {role};")).collect::<String>(),
    );
    for dry_run in [true, false] {
        let told = told(dry_run);
        assert!(told.ends_with(&format!("run: GRANT {roles} TO plain")), "{told}");
    }
    let made = include_str!("../../../../deploy/postgres/roles.sql");
    let made = made.replace(":'password'", "'of the test'").replace(":\"database\"", &name);
    server.sql(&name, &made);
    assert_eq!(migrate(&plain, true).unwrap().before, 0);
    assert!(!migrate(&plain, false).unwrap().changes.is_empty());
    drop(Postgres::open(&plain).unwrap());
}
