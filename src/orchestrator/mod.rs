//! The order of one orchestration.
