//! What operations count, and when they rest.

use super::*;

fn view(operations: &Operations, operation: Operation) -> OperationView {
    let views = operations.views();
    views.into_iter().find(|view| view.operation == operation).unwrap()
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_rest_one_operation_and_no_other() {
    let operations = Operations::default();
    for _ in 0..5 {
        operations.begin(Operation::StoreToken).unwrap().failed();
    }
    let resting = operations.begin(Operation::StoreToken).err();
    assert_eq!(resting, Some(Resting(Operation::StoreToken)));
    for view in operations.views() {
        let open = view.operation == Operation::StoreToken;
        assert_eq!(view.state == BreakerState::Open, open, "{view:?}");
        assert_eq!((view.calls, view.errors), if open { (5, 5) } else { (0, 0) });
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    operations.begin(Operation::StoreToken).unwrap().done();
    assert_eq!(view(&operations, Operation::StoreToken).state, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn it_is_tried_again_every_second_however_often_it_fails() {
    let operations = Operations::default();
    for _ in 0..5 {
        operations.begin(Operation::ReadAudit).unwrap().failed();
    }
    for _ in 0..20 {
        tokio::time::advance(Duration::from_secs(1)).await;
        operations.begin(Operation::ReadAudit).expect("a probe").failed();
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_tenant_brings_is_counted_and_rests_nothing() {
    let operations = Operations::default();
    for _ in 0..50 {
        operations.begin(Operation::PolicyEvaluate).unwrap().failed_for_one();
    }
    let view = view(&operations, Operation::PolicyEvaluate);
    assert_eq!((view.calls, view.errors, view.state), (50, 50, BreakerState::Closed));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_at_once_counts_for_nothing_and_who_waited_long_has_seen_a_failure() {
    let operations = Operations::default();
    drop(operations.begin(Operation::RetrieveToken).unwrap());
    assert_eq!(view(&operations, Operation::RetrieveToken).calls, 0);
    let running = operations.begin(Operation::RetrieveToken).unwrap().waited_for();
    tokio::time::advance(GIVEN_UP).await;
    drop(running);
    let seen = view(&operations, Operation::RetrieveToken);
    assert_eq!((seen.calls, seen.errors, seen.avg_ms), (1, 1, 400.0));
}

#[tokio::test(start_paused = true)]
async fn who_finds_every_place_taken_has_seen_neither_a_failure_nor_a_success() {
    let operations = Operations::default();
    for round in 0..5 {
        let crowded = operations.begin(Operation::DeliverEvents).unwrap().waited_for();
        tokio::time::advance(GIVEN_UP).await;
        crowded.crowded_out();
        let seen = view(&operations, Operation::DeliverEvents);
        assert_eq!((seen.calls, seen.state), (round, BreakerState::Closed));
        operations.begin(Operation::DeliverEvents).unwrap().failed();
    }
    assert_eq!(view(&operations, Operation::DeliverEvents).state, BreakerState::Open);
}

#[test]
fn no_two_operations_share_a_name() {
    let names: std::collections::BTreeSet<_> = Operation::ALL.iter().map(|it| it.name()).collect();
    assert_eq!(names.len(), Operation::ALL.len());
    assert!(names.len() >= 12, "{names:?}");
}
