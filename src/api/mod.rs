//! Routes, wire types, status codes.
