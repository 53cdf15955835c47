//! Redaction by definition: each span grows to the whole grapheme clusters it touches, spans that
//! then share a character become one, and each such union is replaced once. Spans that only touch
//! stay apart.

use std::ops::Range;

use detector_orchestrator::domain::span::Span;
use unicode_segmentation::UnicodeSegmentation as _;

/// A run of the text, in order; together the runs are the text.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    pub text: String,
    /// Which spans this run replaces; none where it is kept.
    pub members: Vec<usize>,
}

/// The extended grapheme clusters of `text` (UAX #29), in code points.
pub fn clusters(text: &str) -> Vec<Range<usize>> {
    let mut start = 0;
    let length = |cluster: &str| cluster.chars().count();
    text.graphemes(true)
        .map(|cluster| {
            start += length(cluster);
            start - length(cluster)..start
        })
        .collect()
}

fn share(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// `span` grown to the clusters it touches.
pub fn grown(clusters: &[Range<usize>], span: Span) -> Range<usize> {
    let span = span.start..span.end;
    let touched: Vec<_> = clusters.iter().filter(|cluster| share(cluster, &span)).collect();
    touched[0].start..touched[touched.len() - 1].end
}

/// The text cut into kept and replaced runs.
pub fn runs(text: &str, spans: &[Span]) -> Vec<Run> {
    let clusters = clusters(text);
    let mut unions: Vec<(Range<usize>, Vec<usize>)> =
        spans.iter().enumerate().map(|(at, span)| (grown(&clusters, *span), vec![at])).collect();
    while let Some((a, b)) = sharing(&unions) {
        let (range, members) = unions.remove(b);
        unions[a].0 = unions[a].0.start.min(range.start)..unions[a].0.end.max(range.end);
        unions[a].1.extend(members);
    }
    unions.sort_by_key(|(range, _)| range.start);
    let characters: Vec<char> = text.chars().collect();
    let run = |range: Range<usize>, members: Vec<usize>| Run {
        text: characters[range].iter().collect(),
        members,
    };
    let (mut runs, mut at) = (Vec::new(), 0);
    for (range, members) in unions {
        runs.push(run(at..range.start, vec![]));
        at = range.end;
        runs.push(run(range, members));
    }
    runs.push(run(at..characters.len(), vec![]));
    runs.retain(|run| !run.text.is_empty());
    runs
}

/// The first two unions that share a character.
fn sharing(unions: &[(Range<usize>, Vec<usize>)]) -> Option<(usize, usize)> {
    let pairs = (0..unions.len()).flat_map(|a| (a + 1..unions.len()).map(move |b| (a, b)));
    pairs.into_iter().find(|(a, b)| share(&unions[*a].0, &unions[*b].0))
}

/// Style `mask`: each union becomes `stars`, whatever its length.
pub fn masked(text: &str, spans: &[Span], stars: &str) -> String {
    let shown = |run: &Run| if run.members.is_empty() { run.text.clone() } else { stars.into() };
    runs(text, spans).iter().map(shown).collect()
}

/// Style `preserve`: each code point of a union becomes a star, white space stays.
pub fn preserved(text: &str, spans: &[Span]) -> String {
    let star = |c: char| if c.is_whitespace() { c } else { '*' };
    let shown = |run: &Run| match run.members.is_empty() {
        true => run.text.clone(),
        false => run.text.chars().map(star).collect(),
    };
    runs(text, spans).iter().map(shown).collect()
}

/// Style `label`: why `output` is not `text` with each union replaced by exactly one `[label]`,
/// where `wins` says which members' labels may stand for a union. `None` when it is.
pub fn label_fault(
    (text, spans): (&str, &[Span]),
    labels: &[&str],
    wins: impl Fn(&[usize]) -> Vec<usize>,
    output: &str,
) -> Option<String> {
    let mut rest = output;
    for run in runs(text, spans) {
        let forms: Vec<String> = match run.members.is_empty() {
            true => vec![run.text.clone()],
            false => wins(&run.members).iter().map(|at| format!("[{}]", labels[*at])).collect(),
        };
        match forms.iter().find_map(|form| rest.strip_prefix(form.as_str())) {
            Some(after) => rest = after,
            None => return Some(format!("{rest:?} stands where one of {forms:?} belongs")),
        }
    }
    (!rest.is_empty()).then(|| format!("{rest:?} is left over"))
}
