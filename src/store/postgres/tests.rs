use std::time::Duration;

use super::super::contract::{decision, record, tenant};
use super::super::{
    Audit as _, AuditEntry, Claims as _, Decisions as _, Keys as _, Ledger as _, Objects as _,
    Secrets as _, Usage as _, contract,
};
use super::*;
use tokio_postgres::config::SslMode;

#[path = "../../../tests/postgres/mod.rs"]
mod server;

mod groups;
mod login;
mod owner;

use server::Server;

/// The owner's store in a new database of `server`.
fn options(server: &Server) -> PostgresOptions {
    PostgresOptions {
        migrate: Migrate::Auto,
        patience: Duration::from_secs(30),
        connection_wait: Duration::from_secs(10),
        ..PostgresOptions::at(server.database().into())
    }
}

fn name(options: &PostgresOptions) -> String {
    use secrecy::ExposeSecret as _;
    options.url.expose_secret().rsplit('/').next().unwrap().to_owned()
}

fn entry(of: &str) -> AuditEntry {
    AuditEntry {
        tenant: Some(tenant(of)),
        at_ms: 1,
        actor: "a".into(),
        action: "b".into(),
        target: "c".into(),
        reason: "with \0 in it".into(),
        before: None,
        after: None,
    }
}

/// What opening says that must fail.
fn refused(options: &PostgresOptions) -> StoreError {
    Postgres::open(options).err().expect("must not open")
}

#[tokio::test]
async fn postgres_holds_the_contract_for_a_login_that_owns_nothing() {
    let server = Server::shared();
    let owner = options(server);
    migrate(&owner, false).unwrap();
    let login = format!("login_{}", name(&owner));
    let grant = format!(
        "CREATE ROLE {login} LOGIN; \
                         GRANT orch_app, orch_writer, orch_worker, orch_purge TO"
    );
    server.sql("postgres", &format!("{grant} {login}"));
    let url = server.url(&login, &name(&owner));
    let store = Postgres::open(&PostgresOptions {
        migrate: Migrate::Check,
        ..PostgresOptions { url: url.into(), ..owner }
    });
    contract::holds(&store.unwrap()).await;
}

#[tokio::test]
async fn claims_equal_the_model_whatever_happens_in_whatever_order() {
    let options = options(Server::shared());
    let (store, name) = (Postgres::open(&options).unwrap(), name(&options));
    let pass = |minutes: u64| -> BoxFuture<'_, ()> {
        let sql = format!(
            "UPDATE claims SET leased_until_ms = leased_until_ms - {0}, \
             forget_at_ms = forget_at_ms - {0}",
            minutes * 60_000
        );
        Server::shared().sql(&name, &sql);
        async {}.boxed()
    };
    contract::claims::equal_the_model(&store, &pass, 1_000).await;
}

#[tokio::test]
async fn jobs_equal_the_model_whatever_happens_in_whatever_order() {
    let options = options(Server::shared());
    let (store, name) = (Postgres::open(&options).unwrap(), name(&options));
    let pass = |minutes: u64| -> BoxFuture<'_, ()> {
        Server::shared().sql(&name, &contract::jobs::passing(minutes).join("; "));
        async {}.boxed()
    };
    contract::jobs::equal_the_model(&store, &pass, 1_000).await;
}

#[tokio::test]
async fn a_move_whose_event_cannot_be_kept_is_none() {
    let options = options(Server::shared());
    let (store, name) = (Postgres::open(&options).unwrap(), name(&options));
    let broken =
        "CREATE TRIGGER broken BEFORE INSERT ON events EXECUTE FUNCTION refuse_change('no')";
    Server::shared().sql(&name, broken);
    let mend = async { drop(Server::shared().sql(&name, "DROP TRIGGER broken ON events")) };
    contract::jobs::a_move_and_its_event_are_one(&store, mend.boxed()).await;
}

/// What each role must not do, and what it is told; `app` enters one tenant.
fn attacks(app: &str) -> Vec<(String, &'static str)> {
    let audit = "INSERT INTO audit (tenant, at_ms, actor, action, target, reason)";
    vec![
        (format!("{app}; {audit} VALUES ('globex', 1, '', '', '', '')"), "row-level security"),
        (format!("{app}; UPDATE objects SET tenant = 'acme'"), "permission denied"),
        (format!("{app}; DELETE FROM decisions"), "permission denied"),
        (format!("{app}; SELECT * FROM usage"), "permission denied"),
        (format!("{app}; SELECT * FROM detector_secrets"), "permission denied"),
        (format!("{app}; DELETE FROM claims"), "permission denied"),
        (format!("{app}; UPDATE jobs SET tenant = 'globex'"), "row-level security"),
        (format!("{app}; DELETE FROM jobs"), "permission denied"),
        (format!("{app}; UPDATE job_transitions SET actor = ''"), "permission denied"),
        (format!("{app}; UPDATE events SET published = true"), "permission denied"),
        (format!("{app}; DELETE FROM workers"), "permission denied"),
        ("SET ROLE orch_worker; UPDATE completions SET fence = 9".into(), "permission denied"),
        ("SET ROLE orch_worker; UPDATE events SET data = '{}'".into(), "permission denied"),
        ("SET ROLE orch_writer; SELECT * FROM jobs".into(), "permission denied"),
        (format!("{app}; UPDATE claims SET tenant = 'globex'"), "row-level security"),
        ("SET ROLE orch_worker; SELECT answer FROM claims".into(), "permission denied"),
        ("SET ROLE orch_writer; SELECT * FROM decisions".into(), "permission denied"),
        ("SET ROLE orch_writer; DELETE FROM decisions".into(), "permission denied"),
        ("SET ROLE orch_worker; UPDATE audit SET actor = ''".into(), "permission denied"),
        ("SET ROLE orch_worker; UPDATE keys SET tenant = 'acme'".into(), "permission denied"),
        (format!("{app}; DELETE FROM leaves"), "permission denied"),
        (format!("{app}; SELECT * FROM nodes"), "permission denied"),
        ("SET ROLE orch_writer; SELECT * FROM leaves".into(), "permission denied"),
        (
            "SET ROLE orch_worker; INSERT INTO checkpoints DEFAULT VALUES".into(),
            "permission denied",
        ),
        ("UPDATE leaves SET place = 9".into(), "append-only"),
        ("DELETE FROM checkpoints".into(), "append-only"),
        ("TRUNCATE nodes".into(), "append-only"),
        ("DELETE FROM logs".into(), "append-only"),
        ("DELETE FROM audit".into(), "append-only"),
        ("UPDATE audit SET actor = ''".into(), "append-only"),
        ("TRUNCATE audit".into(), "append-only"),
        ("DELETE FROM custody".into(), "append-only"),
        (format!("{app}; UPDATE custody SET actor = ''"), "permission denied"),
        (format!("{app}; DELETE FROM holds"), "permission denied"),
        ("SET ROLE orch_worker; SELECT * FROM custody".into(), "permission denied"),
        ("SET ROLE orch_purge; SELECT record FROM decisions".into(), "permission denied"),
        ("SET ROLE orch_purge; UPDATE decisions SET action = ''".into(), "permission denied"),
        ("SET ROLE orch_purge; UPDATE decisions SET record = '{}'".into(), "only loses its record"),
        ("SET ROLE orch_purge; UPDATE decisions SET record = ''".into(), "the record is held"),
        (
            "DELETE FROM holds; SET ROLE orch_purge; UPDATE decisions SET record = ''".into(),
            "told in custody",
        ),
        (
            "SET session_replication_role = replica; UPDATE decisions SET at_ms = 99999999999999; \
             SET session_replication_role = origin; SET ROLE orch_purge; \
             UPDATE decisions SET record = ''"
                .into(),
            "for a day",
        ),
        ("SET ROLE orch_purge; SELECT details FROM custody".into(), "permission denied"),
        ("SET ROLE orch_purge; DELETE FROM decisions".into(), "permission denied"),
        ("SET ROLE orch_purge; SELECT * FROM audit".into(), "permission denied"),
        ("SET ROLE orch_purge; DELETE FROM checkpoints".into(), "append-only"),
        ("SET ROLE orch_purge; SELECT bytes FROM sources".into(), "permission denied"),
        ("SET ROLE orch_purge; DELETE FROM served".into(), "permission denied"),
        ("SET ROLE orch_worker; DELETE FROM checkpoints".into(), "permission denied"),
        ("SET ROLE orch_worker; DELETE FROM sources".into(), "permission denied"),
        ("UPDATE decisions SET complete = false".into(), "only loses its record"),
        ("DELETE FROM decisions".into(), "are kept"),
    ]
}

#[tokio::test]
async fn a_tenants_role_sees_and_writes_its_own_rows_alone() {
    let server = Server::shared();
    let options = options(server);
    let store = Postgres::open(&options).unwrap();
    for of in ["acme", "globex"] {
        record(&store, [decision(of, of)]).await.unwrap();
        store.append(entry(of)).await.unwrap();
        contract::custody::seen(&store, of, of).await;
        contract::retention::held(&store, of, None).await;
        let key = super::super::ObjectKey {
            kind: "overlay".into(),
            tenant: Some(tenant(of)),
            name: "x".into(),
        };
        store.put(key, "{}".into(), super::super::Expected::Any).await.unwrap();
        let claim = super::super::Claim { tenant: tenant(of), key: [1; 32], owner: [1; 16] };
        let hour = Duration::from_secs(3_600);
        let terms = super::super::Terms { request: [1; 32], lease: hour, keep: hour };
        store.claim(claim, terms).await.unwrap();
        contract::jobs::all_tables(&store, of).await;
    }
    let name = name(&options);
    let app = "SET ROLE orch_app; SET app.tenant = 'acme'";
    let jobs = ["jobs", "job_transitions", "job_attempts", "completions", "events"];
    let tables = ["decisions", "leaves", "audit", "objects", "custody", "holds", "claims"];
    for table in tables.iter().chain(&jobs) {
        let seen = server.sql(&name, &format!("{app}; SELECT DISTINCT tenant FROM {table}"));
        assert_eq!(seen, "acme", "{table}");
        let unset = server.sql(&name, &format!("SET ROLE orch_app; SELECT count(*) FROM {table}"));
        assert_eq!(unset, "0", "{table}: no tenant is no row");
    }
    let tables = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = \
                  'public'::regnamespace AND relname <> 'refinery_schema_history' \
                  AND NOT (relrowsecurity AND relforcerowsecurity)";
    assert_eq!(server.sql(&name, tables), "0", "row-level security is forced on every table");
    for (attack, why) in attacks(app) {
        let said = server.try_sql(&name, &attack).expect_err(&attack);
        assert!(said.contains(why), "{attack}: {said}");
    }
    let deleted = format!(
        "{app}; WITH gone AS (DELETE FROM objects RETURNING 1) \
                           SELECT count(*) FROM gone"
    );
    assert_eq!(server.sql(&name, &deleted), "1", "only its own");
}

#[tokio::test]
async fn a_closed_store_takes_nothing() {
    let store = Postgres::open(&options(Server::shared())).unwrap();
    record(&store, [decision("before", "acme")]).await.unwrap();
    store.close();
    for closed in [
        record(&store, [decision("late", "acme")]).await,
        store.append(entry("acme")).await.map(drop),
    ] {
        assert!(matches!(closed, Err(StoreError::Closed { .. })), "{closed:?}");
    }
}

#[test]
fn an_older_schema_is_refused_by_the_command_that_helps_and_a_dry_run_changes_nothing() {
    let owner = options(Server::shared());
    let check = PostgresOptions { migrate: Migrate::Check, ..owner.clone() };
    let told = refused(&check).to_string();
    assert!(told.contains("run `orchestrator migrate`"), "{told}");
    let dry = migrate(&owner, true).unwrap();
    assert_eq!((dry.before, dry.changes.first().map(String::as_str)), (0, Some("V1 store")));
    assert!(matches!(refused(&check), StoreError::OlderSchema { found: 0, .. }));
    assert_eq!(migrate(&owner, false).unwrap(), dry);
    assert_eq!(migrate(&owner, false).unwrap().changes, [""; 0]);
    drop(Postgres::open(&check).unwrap());
}

#[tokio::test]
async fn one_newer_schema_is_served_also_by_what_runs_already_and_two_are_refused() {
    let server = Server::shared();
    let options = PostgresOptions { connections_max: 1, ..options(server) };
    let ours = migrate(&options, false).unwrap().after;
    let name = name(&options);
    let raise = |version: i64| {
        let row = format!("({version}, 'future', '2026-01-01T00:00:00Z', '1')");
        server.sql(&name, &format!("INSERT INTO refinery_schema_history VALUES {row}"));
    };
    let store = Postgres::open(&options).unwrap();
    contract::holds(&store).await;
    raise(ours + 1);
    let tables = [
        "decisions",
        "audit",
        "objects",
        "keys",
        "usage",
        "detector_secrets",
        "logs",
        "leaves",
        "nodes",
        "checkpoints",
        "custody",
        "holds",
    ];
    for table in tables {
        server.sql(&name, &format!("ALTER TABLE {table} ADD COLUMN future TEXT"));
    }
    let page = super::super::Page { limit: 9, before: None };
    let acme = || tenant("acme");
    let key = || contract::key("many");
    assert!(store.decision(acme(), "d-1".into()).await.unwrap().is_some());
    assert!(!store.decisions(acme(), page).await.unwrap().is_empty());
    assert!(!store.entries(Some(acme()), page).await.unwrap().is_empty());
    assert!(store.object(key()).await.unwrap().is_some());
    assert!(store.version(key(), 52).await.unwrap().is_some());
    assert!(!store.versions(key(), page).await.unwrap().is_empty());
    assert!(!store.objects("overlay".into()).await.unwrap().is_empty());
    assert!(store.key("k-acme".into()).await.unwrap().is_some());
    assert!(!store.keys(None, page).await.unwrap().is_empty());
    assert!(!store.used(0).await.unwrap().is_empty() && !store.secrets().await.unwrap().is_empty());
    record(&store, [decision("on-the-newer-one", "acme")]).await.unwrap();
    store.put(key(), "{}".into(), super::super::Expected::Any).await.unwrap();
    drop(Postgres::open(&options).unwrap());
    raise(ours + 2);
    let (found, served) = (ours + 2, ours + 1);
    assert_eq!(refused(&options), StoreError::NewerSchema { found, served });
    assert!(matches!(migrate(&options, false), Err(StoreError::NewerSchema { .. })));
}

#[test]
fn many_that_migrate_at_once_do_it_once() {
    let options = options(Server::shared());
    let done = std::thread::scope(|scope| {
        let running: Vec<_> =
            (0..8).map(|_| scope.spawn(|| migrate(&options, false).unwrap())).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(done.iter().filter(|migrated| !migrated.changes.is_empty()).count(), 1);
}

#[tokio::test]
async fn a_login_without_the_roles_is_told_which_to_grant() {
    let server = Server::shared();
    let owner = options(server);
    migrate(&owner, false).unwrap();
    let login = format!("stranger_{}", name(&owner));
    server.sql("postgres", &format!("CREATE ROLE {login} LOGIN"));
    let url = server.url(&login, &name(&owner)).into();
    let told = refused(&PostgresOptions { url, ..owner }).to_string();
    assert!(told.contains("GRANT orch_app, orch_writer, orch_worker"), "{told}");
}

#[test]
fn an_address_that_is_none_or_leads_nowhere_is_refused_without_its_password() {
    let nowhere = tempfile::tempdir().unwrap();
    let socket = nowhere.path().display().to_string().replace('/', "%2F");
    for url in [
        "postgres://ana:canary@".to_owned(),
        "postgres://ana:canary@db:port/x".to_owned(),
        "postgres://ana:canary@db/x?sslmode=canary".to_owned(),
        format!("postgres://ana:canary@{socket}/x"),
    ] {
        let options = PostgresOptions::at(url.clone().into());
        let told = format!("{options:?} {}", refused(&options));
        assert!(!told.contains("canary"), "{told}");
    }
}

#[tokio::test]
async fn a_server_is_believed_only_with_a_certificate_of_the_named_authority() {
    let (server, port) = Server::start_with_tls();
    let name = name(&PostgresOptions::at(server.database().into()));
    let at = |mode: &str| PostgresOptions {
        migrate: Migrate::Auto,
        ..PostgresOptions::at(format!("postgres://owner@localhost:{port}/{name}{mode}").into())
    };
    let ca_file = Some(server.folder.join("ca.pem"));
    for mode in ["?sslmode=require", "?sslmode=verify-full"] {
        let stranger = refused(&at(mode)).to_string();
        assert!(stranger.contains("certificate"), "{stranger}");
        let known = Postgres::open(&PostgresOptions { ca_file: ca_file.clone(), ..at(mode) });
        let known = known.unwrap();
        let encrypted = known.run("asking", Scope::Service, |t| {
            async move {
                t.batch_execute("SET LOCAL ROLE NONE").await?;
                let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
                Ok(t.query_one(sql, &[]).await?.try_get::<_, bool>(0)?)
            }
            .boxed()
        });
        assert_eq!(encrypted.await, Ok(true), "{mode}");
    }
    let near = Postgres::open(&at(""));
    assert_eq!(near.unwrap().probe().await, Ok(()), "this machine needs no TLS");
    let no_file = PostgresOptions { ca_file: Some("nowhere.pem".into()), ..at("") };
    assert!(matches!(refused(&no_file), StoreError::Authority { .. }));
}

#[test]
fn tls_is_demanded_of_every_host_but_this_machine() {
    for (url, mode) in [
        ("postgres://a@db.example/x", SslMode::Require),
        ("postgres://a@10.0.0.1/x", SslMode::Require),
        ("postgres://a@127.0.0.1,db/x", SslMode::Require),
        ("postgres://a@db.example/x?sslmode=disable", SslMode::Disable),
        ("postgres://a@127.0.0.1/x", SslMode::Disable),
        ("postgres://a@localhost/x", SslMode::Disable),
        ("postgres://a@%2Frun%2Fpostgresql/x", SslMode::Disable),
    ] {
        let connector = Connector::new(&PostgresOptions::at(url.into())).unwrap();
        assert_eq!(connector.mode(), mode, "{url}");
    }
}

#[tokio::test]
async fn a_full_pool_is_told_within_its_wait() {
    let options = PostgresOptions {
        connections_max: 1,
        connection_wait: Duration::from_millis(50),
        ..options(Server::shared())
    };
    let store = Postgres::open(&options).unwrap();
    let (held, holds) = tokio::sync::oneshot::channel::<()>();
    let (free, freed) = tokio::sync::oneshot::channel::<()>();
    let holding = store.run("holding", Scope::Service, move |_| {
        async move {
            let _ = held.send(());
            let _ = freed.await;
            Ok(())
        }
        .boxed()
    });
    holds.await.unwrap();
    let crowded = store.probe().await;
    assert_eq!(crowded, Err(StoreError::Crowded { doing: "probing the store" }));
    let head = crate::domain::log::Checkpoint {
        log: crate::domain::log::LogId::of(&[9; 32]),
        size: 0,
        root: crate::domain::digest::Digest::of(b""),
        at_ms: 0,
        signature: [0; 64],
    };
    let batch =
        crate::store::LogBatch { checkpoint: head, decisions: <_>::default(), nodes: vec![] };
    let way = store.append_batch(std::sync::Arc::new(batch)).await;
    assert!(matches!(way, Err(StoreError::Conflict { .. })), "the log has its own way: {way:?}");
    free.send(()).unwrap();
    holding.await.unwrap();
    assert_eq!(store.probe().await, Ok(()));
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_ended_by_the_server() {
    let statement_timeout = Duration::from_millis(50);
    let options = PostgresOptions { statement_timeout, ..options(Server::shared()) };
    let store = Postgres::open(&options).unwrap();
    let slow = store.run("sleeping", Scope::Service, |t| {
        async move { Ok(t.batch_execute("SELECT pg_sleep(60)").await?) }.boxed()
    });
    let ended = slow.await;
    assert!(matches!(ended, Err(StoreError::Unreachable { .. })), "{ended:?}");
    assert_eq!(store.probe().await, Ok(()));
}

/// Sends `signal` to whatever serves our connections.
fn signal_backends(server: &Server, pids: Option<String>, signal: &str) -> String {
    let ours = "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity \
                WHERE application_name = 'orchestrator'";
    let pids = pids.unwrap_or_else(|| server.sql("postgres", ours));
    let done = std::process::Command::new("kill").arg(signal).args(pids.split(' ')).status();
    assert!(done.unwrap().success());
    pids
}

#[tokio::test]
async fn connections_that_hang_are_left_for_others_and_their_rows_are_kept_once() {
    let server = Server::start();
    let statement_timeout = Duration::from_millis(200);
    let options = PostgresOptions { statement_timeout, connections_max: 1, ..options(&server) };
    let store =
        Postgres::open(&PostgresOptions { patience: Duration::from_millis(500), ..options });
    let store = store.unwrap();
    record(&store, [decision("before", "acme")]).await.unwrap();
    assert_eq!(store.probe().await, Ok(()));
    let hung = signal_backends(&server, None, "-STOP");
    let log = store.append_batch(contract::after_one("meanwhile")).await;
    assert!(matches!(log, Err(StoreError::Slow { .. })), "{log:?}");
    let slow = store.probe().await;
    assert!(matches!(slow, Err(StoreError::Slow { .. })), "{slow:?}");
    assert_eq!(store.probe().await, Ok(()));
    signal_backends(&server, Some(hung), "-CONT");
    // The one that hung goes on as well: whichever comes first, it is there once.
    let again = store.append_batch(contract::after_one("meanwhile")).await;
    assert!(matches!(again, Ok(()) | Err(StoreError::Conflict { .. })), "{again:?}");
    let page = super::super::Page { limit: 9, before: None };
    assert_eq!(store.decisions(tenant("acme"), page).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_database_that_comes_back_takes_records_at_once() {
    let mut server = Server::start();
    let store = Postgres::open(&options(&server)).unwrap();
    record(&store, [decision("before", "acme")]).await.unwrap();
    server.kill();
    assert!(matches!(store.probe().await, Err(StoreError::Unreachable { .. })));
    let away = store.append_batch(contract::after_one("meanwhile")).await;
    assert!(matches!(away, Err(StoreError::Unreachable { .. })), "{away:?}");
    server.start_again();
    store.append_batch(contract::after_one("meanwhile")).await.unwrap();
    let page = super::super::Page { limit: 1000, before: None };
    assert_eq!(store.decisions(tenant("acme"), page).await.unwrap().len(), 2);
}
