//! `settings.yaml` and the environment become one validated `Settings`, all faults at once.
