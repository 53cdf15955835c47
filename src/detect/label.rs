//! What a detector's word means: category, polarity, severity.

use std::sync::Arc;

use crate::catalog::Detector;
use crate::catalog::detector::Label;
use crate::domain::category::Category;
use crate::domain::finding::{Polarity, Severity};

const CHARS_MAX: usize = 128;

/// The word as data: at most 128 characters; what controls a terminal or the order of writing is
/// escaped.
pub(super) fn clean(raw: &str) -> Arc<str> {
    if raw.len() <= CHARS_MAX && !raw.contains(is_unseen) {
        return raw.into();
    }
    let mut label = String::new();
    for c in raw.chars().take(CHARS_MAX) {
        if is_unseen(c) { label.extend(c.escape_unicode()) } else { label.push(c) }
    }
    label.chars().take(CHARS_MAX).collect::<String>().into()
}

/// Control characters, separators of lines, and invisible ones that join or turn the writing.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

/// The meaning of `label`: the file's table; the reply's own category where it lies in one of the
/// file's; else the file's first category.
pub(super) fn meaning(detector: &Detector, label: &str, own: Option<&str>) -> Label {
    let first = || detector.first_category.clone();
    if let Some(known) = detector.labels.get(label) {
        return match (known.polarity, &known.category) {
            (Polarity::Positive, None) => positive(first(), known.severity),
            (Polarity::Positive | Polarity::Negative, _) => known.clone(),
        };
    }
    let own = own.and_then(|own| Category::parse(own).ok());
    let ours = |own: &Category| detector.categories.iter().any(|category| category.touches(own));
    if let Some(own) = own.filter(ours) {
        return positive(own, Severity::Medium);
    }
    if detector.protocol.has_own_words() && is_negative(label) {
        let polarity = Polarity::Negative;
        return Label { category: None, polarity, severity: Severity::Medium };
    }
    positive(first(), Severity::Medium)
}

fn positive(category: Category, severity: Severity) -> Label {
    Label { category: Some(category), polarity: Polarity::Positive, severity }
}

fn is_negative(label: &str) -> bool {
    let label = label.to_ascii_lowercase();
    matches!(label.as_str(), "clean" | "safe" | "ok" | "none" | "benign" | "negative")
        || label.starts_with("no_")
}

/// `low`, `medium`, `high` or `critical`.
pub(super) fn severity(raw: &str) -> Option<Severity> {
    [Severity::Low, Severity::Medium, Severity::High, Severity::Critical]
        .into_iter()
        .find(|severity| severity.name() == raw)
}
