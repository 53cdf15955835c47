//! From detectors' answers to the action: vectors worked out by hand, and random cases against a
//! naive model, through the running service.

use crate::model::vectors::{self, differences, shape};

#[test]
fn the_model_agrees_with_what_was_worked_out_by_hand() {
    let vectors = vectors::all();
    assert!(vectors.len() >= 60, "only {} vectors", vectors.len());
    let wrong: Vec<String> = vectors
        .iter()
        .flat_map(|(scene, expect)| {
            let seen = shape(&crate::model::expected(&scene.case));
            differences(expect, &seen, &scene.name)
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
