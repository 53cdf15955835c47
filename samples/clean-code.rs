fn sum(values: &[u64]) -> u64 {
    values.iter().filter(|value| *value % 2 == 0).sum()
}
