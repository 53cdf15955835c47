//! What every store must do with sealed credentials.

use super::{ALL, entry, tenant};
use crate::domain::id::DetectorName;
use crate::store::{SealedSecret, Store};

fn secret(of: Option<&str>, sealed: Option<&[u8]>) -> SealedSecret {
    SealedSecret {
        tenant: of.map(tenant),
        detector: DetectorName::parse("pii").unwrap(),
        origin: None,
        kind: "api_key".into(),
        sealed: sealed.map(<[u8]>::to_vec),
        at_ms: 1,
    }
}

pub(super) async fn hold(store: &dyn Store) {
    let generation = async || store.secrets_generation().await.unwrap();
    let put = async |secret: SealedSecret| {
        store.put_secret(secret, entry("detector/pii", Some("sealed"))).await.unwrap();
    };
    let list = async || {
        let rows = store.secrets().await.unwrap();
        rows.into_iter().map(|row| row.value).collect::<Vec<_>>()
    };
    let (all, acme) = (secret(None, Some(b"1")), secret(Some("acme"), Some(&[0, 255])));
    let start = generation().await;
    put(all.clone()).await;
    put(acme.clone()).await;
    assert_eq!(list().await, [all, acme.clone()]);
    let heir = secret(None, Some(b"2"));
    let before = generation().await;
    put(heir.clone()).await;
    assert!(generation().await > before && before > start);
    assert_eq!(list().await, [acme.clone(), heir], "the old one is gone");
    let before = generation().await;
    put(secret(None, None)).await;
    assert!(generation().await > before, "taking back is seen elsewhere");
    assert_eq!(list().await, [acme, secret(None, None)]);
    let own = |origin: &str| SealedSecret {
        origin: Some(origin.to_owned()),
        ..secret(Some("acme"), Some(b"3"))
    };
    put(own("https://a")).await;
    put(own("https://b")).await;
    let of_file = secret(Some("acme"), Some(&[0, 255]));
    assert_eq!(
        list().await,
        [of_file, secret(None, None), own("https://b")],
        "one beside the file's"
    );
    assert_eq!(store.entries(Some(tenant("sealed")), ALL).await.unwrap().len(), 6);
}
