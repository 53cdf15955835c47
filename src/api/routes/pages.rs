//! Which part of a list is wanted, and where it goes on.

use actix_web::HttpRequest;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::caller::query;
use crate::domain::error::{Code, Error};
use crate::store::{Numbered, Page};

/// Which page of a list, newest first.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Pages {
    /// Rows, 1 to 200.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[param(pattern = "^[0-9]{1,18}$")]
    pub cursor: Option<String>,
}

/// The rows to be read: one more than are shown, to see whether others follow.
pub(super) fn wanted(http: &HttpRequest) -> Result<Page, Error> {
    let Pages { limit, cursor } = query(http)?;
    page(limit, cursor.as_deref())
}

/// The same of a query that asks for more than a page.
pub(super) fn page(limit: Option<u32>, cursor: Option<&str>) -> Result<Page, Error> {
    let limit = limit.unwrap_or(50);
    match ((1..=200).contains(&limit), before(cursor)) {
        (true, Some(before)) => Ok(Page { limit: limit + 1, before }),
        _ => {
            let message = "limit is 1 to 200, cursor the `next` of the page before";
            Err(Error::new(Code::InvalidRequest, message))
        }
    }
}

/// The number that a cursor is; `None` where it is none.
pub(super) fn before(cursor: Option<&str>) -> Option<Option<i64>> {
    let Some(cursor) = cursor else { return Some(None) };
    let digits = (1..=18).contains(&cursor.len()) && cursor.bytes().all(|b| b.is_ascii_digit());
    cursor.parse().ok().filter(|_| digits).map(Some)
}

/// The rows to be shown, and the cursor of the next page.
pub(super) fn cut<T>(mut rows: Vec<Numbered<T>>, page: Page) -> (Vec<T>, Option<String>) {
    let shown = usize::try_from(page.limit).unwrap_or(usize::MAX).saturating_sub(1);
    let more = rows.len() > shown;
    rows.truncate(shown);
    let next = rows.last().filter(|_| more).map(|row| row.sequence.to_string());
    (rows.into_iter().map(|row| row.value).collect(), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_a_number_that_we_could_have_written() {
        assert_eq!(before(None), Some(None));
        assert_eq!(before(Some("42")), Some(Some(42)));
        for bad in ["", "-1", "+1", " 1", "1.0", "x", &"9".repeat(19)] {
            assert_eq!(before(Some(bad)), None, "{bad}");
        }
    }
}
