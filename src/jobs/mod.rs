//! Many orchestrations at once.
