//! Logs: one line per request with a fixed contract, never content.
