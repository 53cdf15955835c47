//! Consumer groups that are begun and forgotten at the same time, and those of one tenant beside
//! those of another.

use std::sync::Arc;

use futures_util::future::{join, join_all};

use super::*;
use crate::domain::digest::Digest;
use crate::domain::error::Code;
use crate::domain::event::{Event, EventType};
use crate::operations::Operations;
use crate::operations::breaker::BreakerState;
use crate::store::Guarded;
use crate::store::{Begin, Delivering, Events as _, Group, Groups as _, Stream};

fn group(of: &str, name: String) -> Group {
    Group { stream: Stream::Tenant(tenant(of)), name }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_new_groups_of_one_tenant_is_refused_alone_and_rests_nobody() {
    let options = PostgresOptions {
        connection_wait: Duration::from_millis(100),
        ..options(Server::shared())
    };
    let store = Postgres::open(&options).unwrap();
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$; \
                CREATE TRIGGER slow BEFORE INSERT ON event_groups FOR EACH ROW \
                WHEN (NEW.stream = 'acme') EXECUTE FUNCTION slow()";
    Server::shared().sql(&name(&options), slow);
    let operations = Arc::new(Operations::default());
    let store = Guarded::new(store, Arc::clone(&operations));
    let (store, begin) = (&store, Begin { after: 0, groups_max: 9_999 });
    let deliver = async |of: &str, name: String| {
        store.deliver(group(of, name), begin, Delivering::default()).await
    };
    assert_eq!(deliver("globex", "begun".to_owned()).await, Ok(Some(Vec::new())));
    let burst = join_all((0..100).map(|one| deliver("acme", format!("g{one}"))));
    let other = async {
        for one in 0..20 {
            let given = deliver("globex", format!("g{one}")).await;
            assert_eq!(given, Ok(Some(Vec::new())), "beside a burst of another tenant: {one}");
        }
    };
    let (burst, ()) = join(burst, other).await;
    let refused: Vec<_> = burst.iter().filter_map(|given| given.as_ref().err()).collect();
    assert!(!refused.is_empty() && refused.len() < burst.len(), "{refused:?}");
    assert!(refused.iter().all(|error| error.code() == Code::Overloaded), "{refused:?}");
    let views = operations.views();
    assert!(views.iter().all(|view| (view.errors, view.state) == (0, BreakerState::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_another_forgets_at_its_first_delivery_is_given_what_there_is() {
    // As many lanes as callers: they meet in the database.
    let wide = PostgresOptions { connections_max: 32, ..options(Server::shared()) };
    let store = Postgres::open(&wide).unwrap();
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
    let of = |name: String| group("acme", name);
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
