//! Digests, keyed hashes and random tokens.
