//! The HTTP client towards detectors, and the guard on where it may connect.
