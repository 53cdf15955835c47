//! What one tenant is answered does not depend on whether another is there.

use serde_json::Value;

use super::*;

const STEPS: usize = 150;
/// Ids, times and what is shared by design: the revision of the whole, and counters of the process.
const MASKED: [&str; 22] = [
    "revoked_at_ms",
    "expires_at_ms",
    "request_id",
    "revision",
    "duration_ms",
    "prefix",
    "key",
    "at",
    "created_at",
    "created_by",
    "revoked_at",
    "expires_at",
    "stored_at",
    "replaced_by",
    "generation",
    "loaded_at",
    "wanted",
    "instances",
    "actor",
    "target",
    "eval_us",
    "evidence",
];

fn masked(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !MASKED.contains(&name.as_str()));
            fields.values_mut().for_each(masked);
        }
        Value::Array(items) => items.iter_mut().for_each(masked),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The answers to the same operations of one tenant, with or without a busy neighbour.
async fn answers(beside: bool) -> Vec<(u16, String)> {
    let mut house = House::open();
    let told = house.served.keep_output();
    let mut own = Party::enter(&house, TENANTS[0]).await;
    let mut other = Party::enter(&house, TENANTS[1]).await;
    let classes: Vec<&str> = CLASSES
        .into_iter()
        // Whether evidence is on record yet is the clock's to say.
        .filter(|class| !["shared state", "foreign id", "evidence"].contains(class))
        .collect();
    let (mut source, mut noise) = (Source::new(3), Source::new(4));
    let nobody = other.shown();
    let mut seen = Vec::new();
    for _ in 0..STEPS {
        let class = *source.one(&classes);
        for answer in own.act(&house, class, (&mut source, &nobody)).await {
            let mut body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
            masked(&mut body);
            seen.push((answer.status, format!("{class}: {body}")));
        }
        if beside {
            let class = *noise.one(&CLASSES);
            let mine = own.shown();
            other.act(&house, class, (&mut noise, &mine)).await;
        }
    }
    let House { served, .. } = house;
    assert_eq!(served.stop().0, Some(0));
    told.join().unwrap();
    seen
}

#[tokio::test]
async fn a_tenant_is_answered_alike_alone_and_beside_another() {
    let (alone, beside) = (answers(false).await, answers(true).await);
    assert_eq!(alone.len(), beside.len());
    assert!(alone.len() >= STEPS);
    for (step, (alone, beside)) in alone.iter().zip(&beside).enumerate() {
        assert_eq!(alone, beside, "answer {step}");
    }
}
