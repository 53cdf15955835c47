//! Asks detectors under one deadline; every trouble is a `Report`, never an error of the request.

pub mod builtin;
