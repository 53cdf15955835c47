//! One immutable, validated set of catalog and compiled policies, and the swap to the next one.
