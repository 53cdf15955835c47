//! Text builtins.
