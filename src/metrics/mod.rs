//! The documented list of metrics and one typed method to record each.
