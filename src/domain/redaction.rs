//! Replaces found spans by their labels.
