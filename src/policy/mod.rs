//! Rego layers become units; units answer the decision points.
