//! What a detector answers: the first byte chooses the detector, the rest is its reply.

use std::sync::{Arc, LazyLock};

use detector_orchestrator::api::wire::request::{Bounds, OrchestrateRequest};
use detector_orchestrator::catalog::{Catalog, Detector, LoadContext, SourceFile};
use detector_orchestrator::detect::read_reply;
use detector_orchestrator::domain::category::Category;
use detector_orchestrator::domain::id::{RequestId, TenantId};
use detector_orchestrator::domain::request::Request;
use detector_orchestrator::outbound::{self, Guard};
use detector_orchestrator::settings::{Env, Tiers};
use detector_orchestrator::yaml::fault::FaultKind;

const FILES: [&str; 7] = [
    "protocol: native\nendpoint: http://127.0.0.1:1\ncategories: [toxicity]\n",
    "protocol: presidio\nendpoint: http://127.0.0.1:1\ncategories: [pii]\n",
    "protocol: openai-moderation\nendpoint: http://127.0.0.1:1\ncategories: [toxicity, hate]\n",
    "protocol: fms\nendpoint: http://127.0.0.1:1\ncategories: [pii]\noptions: {detector_id: x}\n",
    "protocol: llm-guard\nendpoint: http://127.0.0.1:1\ncategories: [injection]\n",
    "protocol: azure-content-safety\nendpoint: http://127.0.0.1:1\ncategories: [hate, violence]\n",
    "protocol: kserve-v2\nendpoint: http://127.0.0.1:1\ncategories: [toxicity]\n\
     options: {model: toxicity, output: probabilities, labels: [neutral, toxic]}\n",
];

static DETECTORS: LazyLock<Vec<Arc<Detector>>> = LazyLock::new(|| FILES.iter().map(read).collect());

fn read(lines: &&str) -> Arc<Detector> {
    let text = format!("schema_version: 1\nname: fuzzed\n{lines}");
    let file = SourceFile {
        kind: FaultKind::Detector,
        path: "detectors/fuzzed.yaml".to_owned(),
        bytes: Arc::from(text.as_bytes()),
    };
    let tiers = Tiers::new();
    let context = LoadContext {
        env: Env::Development,
        guard: &Guard::new(outbound::Env::Development, Vec::new()),
        secret: &|_| None,
        check_params: &|_| Ok(()),
        tiers: &tiers,
    };
    let (catalog, _) = Catalog::load(&[file], &context).unwrap_or_else(|faults| {
        panic!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    });
    catalog.detectors.into_values().next().unwrap()
}

static REQUEST: LazyLock<Request> = LazyLock::new(|| {
    OrchestrateRequest::of_text("Grüße 👩🏽‍🚀, mail ana@example.org\nvisa 4111 1111 1111 1111")
        .into_domain(
            RequestId::parse("fuzz").unwrap(),
            TenantId::parse("fuzz").unwrap(),
            Bounds { content_chars_max: 1000 },
        )
        .unwrap()
});

/// Whatever a reply says, only what is typed, bounded and inside the content comes of it.
pub fn reply(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let detector = &DETECTORS[usize::from(*first) % DETECTORS.len()];
    let pieces = REQUEST.body.pieces(REQUEST.judge, REQUEST.content_type);
    let Ok(judged) = read_reply(detector, &REQUEST, &pieces, rest) else { return };
    assert!(judged.score.is_none_or(|score| (0.0..=1.0).contains(&score)));
    for finding in judged.findings {
        assert!((0.0..=1.0).contains(&finding.score), "{finding:?}");
        assert!(Category::parse(finding.category.as_str()).is_ok(), "{finding:?}");
        assert!(finding.label.chars().count() <= 128, "{finding:?}");
        assert!(!finding.label.contains(char::is_control), "{finding:?}");
        let Some(place) = finding.place else { continue };
        let chars = pieces[place.piece].chars;
        let inside = place.span.is_none_or(|span| span.start < span.end && span.end <= chars);
        assert!(inside, "{finding:?} in {chars} characters");
    }
}
