//! A credential becomes a `Caller`.
