//! Builds everything, starts the tasks, stops them in order.
