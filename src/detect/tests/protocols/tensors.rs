//! The Open Inference Protocol: tensors in the place of findings.

use super::*;

#[tokio::test]
async fn kserve_tensors_get_their_meaning_from_the_files_labels() {
    let lines = |options: &str| {
        format!(
            "protocol: kserve-v2\nendpoint: SERVER\ncategories: [toxicity]\n\
             labels: {{neutral: {{polarity: negative}}}}\noptions: {{{options}}}\n"
        )
    };
    let name = "kserve-v2/probabilities-nested";
    let two = lines("model: toxicity, output: probabilities, labels: [neutral, toxic]");
    let texts_of = |name| texts(name, "/inputs/0/data");
    let found = ["toxicity toxic 0.01", "toxicity toxic 0.96"];
    check(&two, &texts_of(name), name, &found).await;
    let flat = "kserve-v2/probabilities";
    assert_eq!(play(&two, &texts_of(flat), &fixture(flat).reply).await.findings(), found);
    let name = "kserve-v2/multi-label";
    let three = lines("model: moderation, column: true, labels: [hate, ok, insult]");
    check(&three, &texts_of(name), name, &["toxicity hate 0.91", "toxicity insult 0.4"]).await;
    let name = "kserve-v2/labels-and-scores";
    let words = lines("model: toxicity, output: label, scores: score");
    let played = play(&words, &texts_of(name), &fixture(name).reply).await;
    assert_eq!(played.findings(), ["toxicity toxic 0.96"]);
    let name = "kserve-v2/hugging-face-json";
    let packed = lines("model: transformer, input: args");
    check(&packed, &texts_of(name), name, &["toxicity toxic 0.96"]).await;
    fails(&two, &sample(&["x"]), "kserve-v2/error", ReportError::Rejected).await;
}

#[tokio::test]
async fn kserve_logits_become_probabilities_and_odd_shapes_are_no_answer() {
    let tensor = |shape: Value, data: Value| {
        let output = json!({"name": "o", "shape": shape, "datatype": "FP32", "data": data});
        json!({"status": 200, "body": {"outputs": [output]}})
    };
    let lines = |activation: &str| {
        format!(
            "protocol: kserve-v2\nendpoint: SERVER\ncategories: [toxicity]\n\
             options: {{model: m, labels: [a, b], activation: {activation}}}\n"
        )
    };
    let one = sample(&["x"]);
    for (activation, found) in [
        ("softmax", ["toxicity a 0.5", "toxicity b 0.5"]),
        ("sigmoid", ["toxicity a 0.5", "toxicity b 0.5"]),
    ] {
        let played = play(&lines(activation), &one, &tensor(json!([1, 2]), json!([0, 0]))).await;
        assert_eq!(played.findings(), found, "{activation}");
    }
    for (shape, data) in [
        (json!([1, 2]), json!([0.1, 2.0])),
        (json!([1, 2]), json!([0.1])),
        (json!([1, 3]), json!([0.1, 0.1, 0.1])),
        (json!([2, 1]), json!([0.1, 0.1])),
        (json!([1, 2]), json!([0.1, {}])),
        (json!([18446744073709551615u64, 2]), json!([])),
    ] {
        let played = play(&lines("none"), &one, &tensor(shape.clone(), data.clone())).await;
        assert_eq!(played.report.error, Some(ReportError::BadResponse), "{shape} {data}");
    }
}
