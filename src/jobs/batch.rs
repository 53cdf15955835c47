//! Bounded parallel work whose results keep their order.

use std::future::Future;

use futures_util::StreamExt as _;

/// Runs every future, at most `max_parallel` at once, and returns the results in order.
pub async fn in_order<F: Future>(
    work: impl IntoIterator<Item = F>,
    max_parallel: usize,
) -> Vec<F::Output> {
    futures_util::stream::iter(work).buffered(max_parallel.max(1)).collect().await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn order_is_kept_and_parallelism_is_bounded() {
        let running = Cell::new(0u32);
        let most = Cell::new(0u32);
        let work = (0..20u64).map(|n| {
            let (running, most) = (&running, &most);
            async move {
                running.set(running.get() + 1);
                most.set(most.get().max(running.get()));
                tokio::time::sleep(Duration::from_millis(100 - n * 5)).await;
                running.set(running.get() - 1);
                n
            }
        });
        let results = super::in_order(work, 4).await;
        assert_eq!(results, (0..20).collect::<Vec<_>>());
        assert_eq!(most.get(), 4);
    }
}
