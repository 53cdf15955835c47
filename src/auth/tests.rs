//! Who gets in, who may grant what, and when a credential stops to be one.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::*;
use crate::domain::access::Grant;
use crate::settings::{Env, Settings};
use crate::store::{AuditEntry, KeyChange, Page, Place, Sqlite, SqliteOptions, Store};

mod issuer;

const BOOT: &str = "orch_0123456789ab_0123456789abcdef0123456789abcdef";
const PAGE: Page = Page { limit: 100, before: None };

struct House {
    data: tempfile::TempDir,
    store: Arc<dyn Store>,
}

impl House {
    fn new() -> House {
        let data = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&SqliteOptions::at(Place::Memory)).unwrap();
        House { data, store: Arc::new(store) }
    }

    fn settings(&self, env: Env, variables: &[(&str, &str)]) -> Settings {
        let variables = variables.iter().map(|(n, v)| (format!("ORCHESTRATION_{n}"), (*v).into()));
        let mut settings = Settings::load(None, variables).unwrap();
        settings.env = env;
        settings.paths.data = self.data.path().to_owned();
        settings
    }

    async fn start(
        &self,
        env: Env,
        address: &str,
        variables: &[(&str, &str)],
    ) -> Result<Gate, Refusal> {
        let settings = self.settings(env, variables);
        Gate::for_start(&settings, ip(address), Arc::clone(&self.store)).await
    }

    async fn closed(&self) -> Gate {
        self.start(Env::Staging, "127.0.0.1", &[("BOOTSTRAP_KEY", BOOT)]).await.unwrap()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn ask(gate: &Gate, credential: &str) -> Result<Caller, Error> {
    gate.authenticate(Given::Credential(credential), ip("192.0.2.1")).await
}

async fn code(gate: &Gate, credential: &str) -> Option<Code> {
    ask(gate, credential).await.err().map(|error| error.code)
}

fn wanted(tenant: Option<&str>, roles: &[Role]) -> Wanted {
    Wanted {
        tenant: tenant.map(|id| TenantId::parse(id).unwrap()),
        grant: Grant::of_roles(roles),
        max_priority: None,
        label: "a test".into(),
        expires_at_ms: None,
    }
}

fn bound(tenant: &str, scopes: Scopes) -> Caller {
    let tenant = Some(TenantId::parse(tenant).unwrap());
    Caller { tenant, scopes, roles: BTreeSet::new(), ..Caller::super_admin("someone") }
}

#[tokio::test]
async fn only_development_on_loopback_is_open() {
    let house = House::new();
    let open = house.start(Env::Development, "127.0.0.1", &[]).await.unwrap();
    let caller = open.authenticate(Given::Nothing, ip("127.0.0.1")).await.unwrap();
    assert_eq!(caller, Caller::development());
    assert_eq!(code(&open, "whatever a client must send").await, None);
    let stranger = "orch_ffffffffffff_00000000000000000000000000000000";
    assert_eq!(code(&open, stranger).await, Some(Code::Unauthorized), "a key is checked");

    let container = house.start(Env::Development, "0.0.0.0", &[]).await.unwrap();
    let key = container.development_key().unwrap();
    let caller = ask(&container, key.expose()).await.unwrap();
    assert!(caller.is_super_admin() && caller.key_prefix.is_some());
    assert!(!format!("{key:?}").contains(key.expose()));
    for wrong in ["", "orch_dev_x", &key.expose()[1..]] {
        assert_eq!(code(&container, wrong).await, Some(Code::Unauthorized), "{wrong}");
    }
    for given in [Given::Nothing, Given::Unclear] {
        let refused = container.authenticate(given, ip("127.0.0.1")).await.unwrap_err();
        assert_eq!(refused.code, Code::Unauthorized);
    }
    let again = house.start(Env::Development, "0.0.0.0", &[]).await.unwrap();
    let kept = again.development_key().unwrap().expose() == key.expose();
    assert!(kept, "a restart keeps the key");
}

#[tokio::test]
async fn staging_and_production_refuse_to_start_until_somebody_can_enter() {
    for env in [Env::Staging, Env::Production] {
        let house = House::new();
        let refused = house.start(env, "127.0.0.1", &[]).await.err().unwrap();
        let told = refused.to_string();
        for way in ["ORCHESTRATION_BOOTSTRAP_KEY", "orchestrator keys create", "JWT_SECRET_KEY"] {
            assert!(told.contains(way), "{told}");
        }
        let malformed = house.start(env, "127.0.0.1", &[("BOOTSTRAP_KEY", "password")]).await;
        let told = malformed.err().unwrap().to_string();
        assert!(told.contains("openssl rand") && !told.contains("password"), "{told}");
        let secret = "a secret of at least thirty-two bytes";
        assert!(house.start(env, "127.0.0.1", &[("JWT_SECRET_KEY", secret)]).await.is_ok());
        let missing = [("SECURITY__JWT__JWKS_FILE", "/nowhere/keys.json")];
        let told = house.start(env, "127.0.0.1", &missing).await.err().unwrap().to_string();
        assert!(told.contains("/nowhere/keys.json"), "{told}");
        let proxy = [("SECURITY__TRUSTED_PROXIES", "[proxy.example]"), ("JWT_SECRET_KEY", secret)];
        assert!(house.start(env, "127.0.0.1", &proxy).await.is_err());
    }
}

#[tokio::test]
async fn the_bootstrap_key_is_made_once_and_its_revocation_is_final() {
    let house = House::new();
    let gate = house.closed().await;
    let caller = ask(&gate, BOOT).await.unwrap();
    assert!(caller.is_super_admin() && caller.tenant.is_none());
    gate.keys().revoke(&caller, "orch_0123456789ab", "done").await.unwrap();
    assert_eq!(code(&gate, BOOT).await, Some(Code::Unauthorized));
    let again = house.start(Env::Staging, "127.0.0.1", &[("BOOTSTRAP_KEY", BOOT)]).await;
    let refused = again.err().unwrap();
    assert!(matches!(refused, Refusal::SpentBootstrapKey { .. }), "the store is not empty");
    let entries = house.store.entries(None, PAGE).await.unwrap();
    let acts: Vec<_> = entries.iter().map(|row| row.value.action.as_str()).collect();
    assert_eq!(acts, ["key.revoke", "key.create"]);
}

#[tokio::test]
async fn a_key_is_only_itself() {
    let house = House::new();
    let gate = house.closed().await;
    let refused = |text: String| {
        let gate = &gate;
        async move { assert_eq!(code(gate, &text).await, Some(Code::Unauthorized), "{text}") }
    };
    for wrong in [
        BOOT[..BOOT.len() - 1].to_owned(),
        format!("{BOOT}0"),
        format!("{} ", BOOT),
        BOOT.to_uppercase(),
        format!("orch_0123456789ab_{}", "0".repeat(32)),
        format!("orch_ffffffffffff_{}", "0123456789abcdef".repeat(2)),
        BOOT.replacen('_', "\u{ff3f}", 1),
    ] {
        refused(wrong).await;
    }
    // Another pepper makes every key unknown.
    let pepper = "0".repeat(64);
    let secret = "a secret of at least thirty-two bytes";
    let variables = [("KEY_PEPPER", pepper.as_str()), ("JWT_SECRET_KEY", secret)];
    let other = house.start(Env::Staging, "127.0.0.1", &variables).await.unwrap();
    assert_eq!(code(&other, BOOT).await, Some(Code::Unauthorized));
}

#[tokio::test]
async fn every_refusal_reads_the_same() {
    let house = House::new();
    let gate = house.closed().await;
    let admin = ask(&gate, BOOT).await.unwrap();
    let minted = gate.keys().create(&admin, wanted(Some("acme"), &[Role::App]), "r").await.unwrap();
    gate.keys().revoke(&admin, &minted.key.prefix, "r").await.unwrap();
    let revoked = ask(&gate, minted.secret.expose_secret()).await.unwrap_err();
    let unknown = ask(&gate, "orch_ffffffffffff_00000000000000000000000000000000").await;
    assert_eq!(revoked.to_string(), unknown.unwrap_err().to_string());
    let shown = format!("{minted:?}");
    assert!(!shown.contains(minted.secret.expose_secret()), "{shown}");
}

#[tokio::test]
async fn what_another_instance_revokes_is_refused_within_a_second() {
    let house = House::new();
    let dir = tempfile::tempdir().unwrap();
    let file = Place::File(dir.path().join("s.db"));
    let store: Arc<dyn Store> = Arc::new(Sqlite::open(&SqliteOptions::at(file)).unwrap());
    let settings = house.settings(Env::Staging, &[("BOOTSTRAP_KEY", BOOT)]);
    let gate = Gate::for_start(&settings, ip("127.0.0.1"), Arc::clone(&store)).await.unwrap();
    assert!(ask(&gate, BOOT).await.is_ok());
    let change = KeyChange::Revoke { prefix: "orch_0123456789ab".into(), at_ms: 1 };
    let entry = AuditEntry {
        tenant: None,
        at_ms: 1,
        actor: "elsewhere".into(),
        action: "key.revoke".into(),
        target: "key/x".into(),
        reason: "r".into(),
        before: None,
        after: None,
    };
    assert_eq!(store.change_key(change, entry).await, Ok(true));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(code(&gate, BOOT).await, Some(Code::Unauthorized));
}

#[tokio::test]
async fn without_the_store_a_known_key_may_only_have_content_judged_and_not_for_long() {
    let house = House::new();
    let gate = house.closed().await;
    assert!(ask(&gate, BOOT).await.is_ok());
    house.store.close();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2)).await;
    let caller = ask(&gate, BOOT).await.unwrap();
    assert_eq!(caller.scopes, Scopes::of(&[Scope::OrchestrateWrite]));
    let stranger = "orch_ffffffffffff_00000000000000000000000000000000";
    assert_eq!(code(&gate, stranger).await, Some(Code::StoreUnavailable));
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(code(&gate, BOOT).await, Some(Code::StoreUnavailable));
}

#[tokio::test]
async fn an_expired_key_is_refused_and_a_rotated_one_goes_on_for_its_overlap_only() {
    let house = House::new();
    let gate = house.closed().await;
    let admin = ask(&gate, BOOT).await.unwrap();
    let keys = gate.keys();
    let app = wanted(Some("acme"), &[Role::App]);
    let short = Wanted { expires_at_ms: Some(keys::now_ms() + 60), ..app.clone() };
    let short = keys.create(&admin, short, "r").await.unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(5);
    while ask(&gate, short.secret.expose_secret()).await.is_ok() {
        assert!(std::time::Instant::now() < until, "it never expired");
        tokio::task::yield_now().await;
    }
    let old = keys.create(&admin, app, "r").await.unwrap();
    let hour = Duration::from_secs(3600);
    let new = keys.rotate(&admin, &old.key.prefix, hour, "r").await.unwrap();
    assert!(ask(&gate, old.secret.expose_secret()).await.is_ok(), "the overlap runs");
    let heir = ask(&gate, new.secret.expose_secret()).await.unwrap();
    assert_eq!((heir.scopes, heir.tenant), (Role::App.scopes(), new.key.tenant.clone()));
    let twice = keys.rotate(&admin, &old.key.prefix, hour, "r").await.unwrap_err();
    assert_eq!(twice.code, Code::PreconditionFailed);
    let last = keys.rotate(&admin, &new.key.prefix, Duration::ZERO, "r").await.unwrap();
    assert_eq!(code(&gate, new.secret.expose_secret()).await, Some(Code::Unauthorized));
    assert!(ask(&gate, last.secret.expose_secret()).await.is_ok());
}

#[tokio::test]
async fn nobody_grants_more_than_it_holds() {
    let house = House::new();
    let gate = house.closed().await;
    let tenant_admin = bound("acme", Role::TenantAdmin.scopes());
    let admin = Caller::super_admin("root");
    let almost = Scopes::ALL.iter().filter(|scope| *scope != Scope::CacheWrite).collect();
    let almost = Caller { scopes: almost, ..Caller::super_admin("almost") };
    let with_scopes = |tenant, scopes: &[Scope]| Wanted {
        grant: Grant { roles: None, scopes: Some(Scopes::of(scopes)) },
        ..wanted(tenant, &[])
    };
    let acme = Some("acme");
    let urgent = Wanted { max_priority: Some(Priority::High), ..wanted(acme, &[Role::Viewer]) };
    let slow = Caller { max_priority: Some(Priority::Low), ..tenant_admin.clone() };
    for (name, by, asked, expected) in [
        ("a viewer", &tenant_admin, wanted(None, &[Role::Viewer]), None),
        ("its like", &tenant_admin, wanted(acme, &[Role::TenantAdmin]), None),
        ("an auditor", &tenant_admin, wanted(acme, &[Role::Auditor]), Some("/roles")),
        ("an app", &tenant_admin, wanted(acme, &[Role::App]), Some("/roles")),
        ("a chief", &tenant_admin, wanted(None, &[Role::SuperAdmin]), Some("/roles")),
        ("relaxing", &tenant_admin, with_scopes(acme, &[Scope::OrchestrateRelax]), Some("/scopes")),
        ("another's", &tenant_admin, wanted(Some("globex"), &[Role::Viewer]), Some("/tenant")),
        ("haste", &slow, urgent, Some("/max_priority")),
        ("relaxing by the chief", &admin, with_scopes(acme, &[Scope::OrchestrateRelax]), None),
        (
            "relaxing by almost",
            &almost,
            with_scopes(acme, &[Scope::OrchestrateRelax]),
            Some("/scopes"),
        ),
        ("any tenant by almost", &almost, with_scopes(None, &[Scope::TenantsAny]), Some("/scopes")),
        ("platform by almost", &almost, wanted(None, &[Role::PlatformOperator]), Some("/roles")),
        ("platform", &admin, wanted(None, &[Role::PlatformOperator]), None),
        ("platform in a tenant", &admin, wanted(acme, &[Role::PlatformOperator]), Some("/tenant")),
        ("an app of nobody", &admin, wanted(None, &[Role::App]), Some("/tenant")),
        ("nothing", &admin, wanted(acme, &[]), Some("/roles")),
        (
            "the past",
            &admin,
            Wanted { expires_at_ms: Some(1), ..wanted(acme, &[Role::App]) },
            Some("/expires_in_s"),
        ),
        (
            "no name",
            &admin,
            Wanted { label: " ".into(), ..wanted(acme, &[Role::App]) },
            Some("/label"),
        ),
    ] {
        let made = gate.keys().create(by, asked, "r").await;
        let pointer = made.as_ref().err().map(|error| error.details[0].pointer.as_str());
        assert_eq!(pointer, expected, "{name}");
    }
    let unsaid = gate.keys().create(&admin, wanted(acme, &[Role::App]), " ").await.unwrap_err();
    assert_eq!(unsaid.details[0].pointer, "/reason");
}

#[tokio::test]
async fn a_tenants_administrator_cannot_touch_anothers_keys_nor_inherit_stronger_ones() {
    let house = House::new();
    let gate = house.closed().await;
    let (keys, admin) = (gate.keys(), Caller::super_admin("root"));
    let acme = bound("acme", Role::TenantAdmin.scopes());
    let theirs = keys.create(&admin, wanted(Some("globex"), &[Role::Viewer]), "r").await.unwrap();
    let prefix = theirs.key.prefix.as_str();
    let codes = [
        keys.named(&acme, prefix).await.unwrap_err().code,
        keys.revoke(&acme, prefix, "r").await.unwrap_err().code,
        keys.rotate(&acme, prefix, Duration::ZERO, "r").await.unwrap_err().code,
        keys.named(&acme, "orch_0123456789ab").await.unwrap_err().code,
    ];
    assert_eq!(codes, [Code::NotFound; 4]);
    let strong = keys.create(&admin, wanted(Some("acme"), &[Role::App]), "r").await.unwrap();
    let stolen = keys.rotate(&acme, &strong.key.prefix, Duration::ZERO, "r").await.unwrap_err();
    assert_eq!(stolen.code, Code::InsufficientScope);
    // Whatever else is wrong, another tenant's name tells nothing of whether it exists.
    for (tenant, role) in [("globex", Role::SuperAdmin), ("nope", Role::SuperAdmin)] {
        let made = keys.create(&acme, wanted(Some(tenant), &[role]), "r").await.unwrap_err();
        assert_eq!(made.code, Code::TenantMismatch, "{tenant}");
    }
    let listed = keys.list(&acme, PAGE).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|row| row.value.prefix.as_str()).collect();
    assert_eq!(listed, [strong.key.prefix.as_str()]);
    keys.revoke(&acme, &strong.key.prefix, "left").await.unwrap();
    assert_eq!(code(&gate, strong.secret.expose_secret()).await, Some(Code::Unauthorized));
}

#[tokio::test]
async fn an_address_that_guesses_is_stopped_and_others_are_not() {
    let house = House::new();
    let gate = house.closed().await;
    for n in 0..20 {
        let guess = format!("orch_ffffffffffff_{n:032x}");
        assert_eq!(code(&gate, &guess).await, Some(Code::Unauthorized), "{n}");
    }
    let barred = ask(&gate, BOOT).await.unwrap_err();
    assert_eq!(barred.code, Code::RateLimited);
    let pause = barred.retry_after.unwrap();
    assert!(pause <= Duration::from_secs(3), "{pause:?}: one is forgiven by then");
    assert!(gate.authenticate(Given::Credential(BOOT), ip("192.0.2.2")).await.is_ok());
}

#[tokio::test]
async fn only_a_trusted_proxy_says_where_a_request_comes_from() {
    let house = House::new();
    let proxies = [("SECURITY__TRUSTED_PROXIES", "[10.0.0.0/8, \"192.0.2.7\"]")];
    let gate = house.start(Env::Development, "127.0.0.1", &proxies).await.unwrap();
    for (peer, forwarded, expected) in [
        ("203.0.113.5", &["1.1.1.1"][..], "203.0.113.5"),
        ("10.0.0.1", &[][..], "10.0.0.1"),
        ("10.0.0.1", &["198.51.100.9"][..], "198.51.100.9"),
        ("10.0.0.1", &["1.1.1.1, 198.51.100.9"][..], "198.51.100.9"),
        ("10.0.0.1", &["1.1.1.1", "198.51.100.9, 192.0.2.7"][..], "198.51.100.9"),
        ("10.0.0.1", &["1.1.1.1, unknown"][..], "10.0.0.1"),
        ("::ffff:10.0.0.1", &["198.51.100.9"][..], "198.51.100.9"),
    ] {
        assert_eq!(gate.source(ip(peer), forwarded), ip(expected), "{peer} {forwarded:?}");
    }
}

fn token(secret: &str, claims: &serde_json::Value) -> String {
    use aws_lc_rs::hmac;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let message = [part(br#"{"alg":"HS256"}"#), part(claims.to_string().as_bytes())].join(".");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("{message}.{}", part(hmac::sign(&key, message.as_bytes()).as_ref()))
}

#[tokio::test]
async fn a_token_enters_beside_keys_and_bad_ones_count_as_failures() {
    let house = House::new();
    let secret = "a secret of at least thirty-two bytes";
    let variables = [("JWT_SECRET_KEY", secret), ("SECURITY__JWT__AUDIENCE", "shop")];
    let gate = house.start(Env::Production, "0.0.0.0", &variables).await.unwrap();
    let mut claims = serde_json::json!({"iss": "orchestrator", "aud": "shop", "sub": "ana",
        "exp": keys::now_ms() / 1000 + 60, "tenant_id": "acme", "roles": ["viewer"]});
    let caller = ask(&gate, &token(secret, &claims)).await.unwrap();
    assert_eq!((caller.actor.as_str(), caller.scopes), ("subject/ana", Role::Viewer.scopes()));
    assert_eq!(caller.tenant, Some(TenantId::parse("acme").unwrap()));
    claims["aud"] = "orchestrator".into();
    let elsewhere = token(secret, &claims);
    for _ in 0..20 {
        assert_eq!(code(&gate, &elsewhere).await, Some(Code::Unauthorized));
    }
    assert_eq!(code(&gate, &elsewhere).await, Some(Code::RateLimited));
}

/// A token of `key` under `kid`, and the set of keys that knows it.
fn signed(key: &aws_lc_rs::signature::Ed25519KeyPair, kid: &str) -> (String, String) {
    use aws_lc_rs::signature::KeyPair as _;
    use base64::Engine as _;
    let part = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let header = serde_json::json!({"alg": "EdDSA", "kid": kid});
    let claims = serde_json::json!({"iss": "orchestrator", "aud": "orchestrator", "sub": "ana",
        "exp": keys::now_ms() / 1000 + 600, "tenant_id": "acme", "roles": ["viewer"]});
    let message = [header, claims].map(|json| part(json.to_string().as_bytes())).join(".");
    let token = format!("{message}.{}", part(key.sign(message.as_bytes()).as_ref()));
    let set = serde_json::json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": kid,
        "x": part(key.public_key().as_ref())}]});
    (token, set.to_string())
}

#[tokio::test]
async fn an_issuer_may_change_its_keys_and_a_faulty_file_changes_nothing() {
    let generate = || aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
    let (old, old_set) = signed(&generate(), "2025");
    let (new, new_set) = signed(&generate(), "2026");
    let house = House::new();
    let file = house.data.path().join("keys.json");
    std::fs::write(&file, old_set).unwrap();
    let variables = [("SECURITY__JWT__JWKS_FILE", file.to_str().unwrap())];
    let gate = house.start(Env::Production, "0.0.0.0", &variables).await.unwrap();
    assert_eq!(
        (code(&gate, &old).await, code(&gate, &new).await),
        (None, Some(Code::Unauthorized))
    );
    tokio::time::pause();
    std::fs::write(&file, "{}").unwrap();
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(code(&gate, &old).await, None, "the last good one holds");
    std::fs::write(&file, new_set).unwrap();
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(code(&gate, &new).await, None, "an unknown key is looked for");
    assert_eq!(code(&gate, &old).await, Some(Code::Unauthorized), "what is gone is refused");
}
