//! Text to typed value, with positions in every error and budgets against hostile input.
