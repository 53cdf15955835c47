//! Consumer groups that are begun and forgotten at the same time.

use futures_util::future::{join, join_all};

use super::*;
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventType};
use crate::store::{Begin, Delivering, Events as _, Group, Groups as _, Stream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_another_forgets_at_its_first_delivery_is_given_what_there_is() {
    let store = Postgres::open(&options(Server::shared())).unwrap();
    let event = Event {
        id: Digest::of(b"the only one"),
        event_type: EventType::Incident,
        tenant: Some(tenant("acme")),
        at_ms: 1,
        source: "a test".into(),
        data: serde_json::json!({}),
    };
    store.append_events(vec![event]).await.unwrap();
    while store.number_events(9).await.unwrap() > 0 {}
    let (store, how) = (&store, Delivering::default());
    let nothing = Delivering { most: 0, ..how };
    let begin = |groups_max: u32| Begin { after: 0, groups_max };
    let of = |name: String| Group { stream: Stream::Tenant(tenant("acme")), name };
    for round in 0..60 {
        let groups: Vec<Group> = (0..8).map(|one| of(format!("g{round}-{one}"))).collect();
        for group in &groups {
            let made = store.deliver(group.clone(), begin(9_999), nothing).await;
            assert_eq!(made, Ok(Some(Vec::new())));
        }
        // Finds the stream full, and forgets those that were given nothing yet.
        let forget = async || {
            let late = store.deliver(of("late".to_owned()), begin(0), how).await;
            assert_eq!(late, Ok(None));
        };
        let deliver = async |group: &Group| {
            let given = store.deliver(group.clone(), begin(9_999), how).await;
            assert_eq!(given.map(|given| given.map(|given| given.len())), Ok(Some(1)));
        };
        let forgetting = join_all((0..4).map(|_| forget()));
        join(join_all(groups.iter().map(deliver)), forgetting).await;
    }
}
