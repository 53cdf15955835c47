use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::super::contract::{decision, tenant};
use super::super::{
    Audit as _, AuditEntry, Decisions as _, Keys as _, Objects as _, Secrets as _, Usage as _,
    contract,
};
use super::*;
use tokio_postgres::config::SslMode;

#[path = "../../../tests/postgres/mod.rs"]
mod server;

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
    let grant = format!("CREATE ROLE {login} LOGIN; GRANT orch_app, orch_writer, orch_worker TO");
    server.sql("postgres", &format!("{grant} {login}"));
    let url = server.url(&login, &name(&owner));
    let store = Postgres::open(&PostgresOptions {
        migrate: Migrate::Check,
        ..PostgresOptions { url: url.into(), ..owner }
    });
    contract::holds(&store.unwrap()).await;
}

#[tokio::test]
async fn a_tenants_role_sees_and_writes_its_own_rows_alone() {
    let server = Server::shared();
    let options = options(server);
    let store = Postgres::open(&options).unwrap();
    for of in ["acme", "globex"] {
        store.record(decision(of, of)).await.unwrap();
        store.append(entry(of)).await.unwrap();
        let key = super::super::ObjectKey {
            kind: "overlay".into(),
            tenant: Some(tenant(of)),
            name: "x".into(),
        };
        store.put(key, "{}".into(), super::super::Expected::Any).await.unwrap();
    }
    let name = name(&options);
    let app = "SET ROLE orch_app; SET app.tenant = 'acme'";
    for table in ["decisions", "audit", "objects"] {
        let seen = server.sql(&name, &format!("{app}; SELECT DISTINCT tenant FROM {table}"));
        assert_eq!(seen, "acme", "{table}");
        let unset = server.sql(&name, &format!("SET ROLE orch_app; SELECT count(*) FROM {table}"));
        assert_eq!(unset, "0", "{table}: no tenant is no row");
    }
    let tables = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = \
                  'public'::regnamespace AND relname <> 'refinery_schema_history' \
                  AND NOT (relrowsecurity AND relforcerowsecurity)";
    assert_eq!(server.sql(&name, tables), "0", "row-level security is forced on every table");
    let audit = "INSERT INTO audit (tenant, at_ms, actor, action, target, reason)";
    for (attack, why) in [
        (format!("{app}; {audit} VALUES ('globex', 1, '', '', '', '')"), "row-level security"),
        (format!("{app}; UPDATE objects SET tenant = 'acme'"), "permission denied"),
        (format!("{app}; DELETE FROM decisions"), "permission denied"),
        (format!("{app}; SELECT * FROM usage"), "permission denied"),
        (format!("{app}; SELECT * FROM detector_secrets"), "permission denied"),
        ("SET ROLE orch_writer; SELECT * FROM decisions".into(), "permission denied"),
        ("SET ROLE orch_writer; DELETE FROM decisions".into(), "permission denied"),
        ("SET ROLE orch_worker; UPDATE audit SET actor = ''".into(), "permission denied"),
        ("SET ROLE orch_worker; UPDATE keys SET tenant = 'acme'".into(), "permission denied"),
        ("DELETE FROM audit".into(), "append-only"),
        ("UPDATE audit SET actor = ''".into(), "append-only"),
        ("TRUNCATE audit".into(), "append-only"),
    ] {
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
async fn rows_written_together_share_commits() {
    let store = Postgres::open(&options(Server::shared())).unwrap();
    let rows = (0..1000).map(|n| store.record(decision(&format!("d{n}"), "acme")));
    for result in futures_util::future::join_all(rows).await {
        result.unwrap();
    }
    let stats = store.stats();
    assert_eq!((stats.rows, stats.lost, stats.queued), (1000, 0, 0));
    assert!(stats.batches <= 100, "{stats:?}");
}

#[tokio::test]
async fn close_writes_what_is_queued_and_then_refuses() {
    let options = options(Server::shared());
    let store = Postgres::open(&options).unwrap();
    for n in 0..600 {
        let accepted = store.record_later(decision(&format!("d{n}"), "acme"));
        assert_eq!(accepted, super::super::Accepted::Queued);
    }
    store.close();
    assert_eq!((store.stats().rows, store.stats().lost), (600, 0));
    let dropped = store.record_later(decision("late", "acme"));
    assert_eq!(dropped, super::super::Accepted::Dropped);
    let closed = store.append(entry("acme")).await;
    assert!(matches!(closed, Err(StoreError::Closed { .. })), "{closed:?}");
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
    let tables = ["decisions", "audit", "objects", "keys", "usage", "detector_secrets"];
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
    store.record(decision("on-the-newer-one", "acme")).await.unwrap();
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
    let busy = store.probe().await;
    assert_eq!(busy, Err(StoreError::Busy { doing: "probing the store" }));
    store.record(decision("d", "acme")).await.expect("decisions have a way of their own");
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
    store.record(decision("before", "acme")).await.unwrap();
    assert_eq!(store.probe().await, Ok(()));
    let hung = signal_backends(&server, None, "-STOP");
    let begun = Instant::now();
    assert_eq!(store.record_later(decision("meanwhile", "acme")), super::super::Accepted::Queued);
    assert!(begun.elapsed() < Duration::from_millis(200), "nobody waits for a record");
    let slow = store.probe().await;
    assert!(matches!(slow, Err(StoreError::Slow { .. })), "{slow:?}");
    while store.stats().rows < 2 {
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", store.stats());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(store.probe().await, Ok(()));
    signal_backends(&server, Some(hung), "-CONT");
    let page = super::super::Page { limit: 9, before: None };
    assert_eq!(store.decisions(tenant("acme"), page).await.unwrap().len(), 2);
    assert_eq!(store.stats().lost, 0);
}

#[tokio::test]
async fn a_killed_database_is_waited_for_and_nothing_that_waits_is_lost() {
    let mut server = Server::start();
    let store = Postgres::open(&PostgresOptions { queue_rows: 100, ..options(&server) }).unwrap();
    store.record(decision("before", "acme")).await.unwrap();
    server.kill();
    assert!(matches!(store.probe().await, Err(StoreError::Unreachable { .. })));
    let begun = Instant::now();
    let accepted = (0..500)
        .filter(|n| {
            let row = decision(&format!("d{n}"), "acme");
            store.record_later(row) == super::super::Accepted::Queued
        })
        .count();
    assert!(begun.elapsed() < Duration::from_millis(500), "nobody waits for a record");
    // The writer holds a batch of up to 256 while 100 more wait.
    assert!((100..=356).contains(&accepted), "{accepted}");
    let lost = store.stats().lost;
    assert_eq!(lost, 500 - accepted as u64, "what did not fit is counted");
    server.start_again();
    let up = Instant::now();
    while store.probe().await.is_err() || store.stats().queued > 0 {
        // The promise is a second, the rest is for a busy machine.
        assert!(up.elapsed() < Duration::from_secs(3), "{:?}", store.stats());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    store.record(decision("after", "acme")).await.unwrap();
    let page = super::super::Page { limit: 1000, before: None };
    let found = store.decisions(tenant("acme"), page).await.unwrap();
    assert_eq!(found.len(), accepted + 2);
    assert_eq!(store.stats().lost, lost);
}

/// Records batches until `stop`, at least one; the ids of what was acknowledged.
async fn load(store: &Postgres, kill: usize, stop: &AtomicBool, begun: &Sender<()>) -> Vec<String> {
    let mut kept = Vec::new();
    for n in 0.. {
        let ids: Vec<String> = (0..50).map(|i| format!("k{kill}-{n}-{i}")).collect();
        let rows = ids.iter().map(|id| store.record(decision(id, "acme")));
        let told = futures_util::future::join_all(rows).await;
        kept.extend(ids.into_iter().zip(told).filter(|(_, told)| told.is_ok()).map(|(id, _)| id));
        begun.send(()).unwrap();
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    kept
}

#[test]
fn acknowledged_rows_survive_kills_of_the_database_and_are_there_once() {
    let mut server = Server::start();
    let store = Postgres::open(&options(&server)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut acknowledged = Vec::new();
    for kill in 0..3 {
        let stop = AtomicBool::new(false);
        let (begun, begins) = std::sync::mpsc::channel();
        let kept = std::thread::scope(|scope| {
            let writing = scope.spawn(|| runtime.block_on(load(&store, kill, &stop, &begun)));
            begins.recv().unwrap();
            server.kill();
            server.start_again();
            stop.store(true, Ordering::Relaxed);
            writing.join().unwrap()
        });
        assert!(kept.len() >= 50);
        acknowledged.extend(kept);
    }
    runtime.block_on(async {
        for id in &acknowledged {
            let found = store.decision(tenant("acme"), id.clone()).await.unwrap();
            assert!(found.is_some(), "{id} was acknowledged and is gone");
        }
    });
    assert_eq!(store.stats().lost, 0);
}
