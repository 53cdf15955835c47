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
    pub cursor: Option<String>,
}

/// The rows to be read: one more than are shown, to see whether others follow.
pub(super) fn wanted(http: &HttpRequest) -> Result<Page, Error> {
    let pages: Pages = query(http)?;
    let limit = pages.limit.unwrap_or(50);
    let before = pages.cursor.map(|cursor| cursor.parse::<i64>()).transpose();
    match ((1..=200).contains(&limit), before) {
        (true, Ok(before)) => Ok(Page { limit: limit + 1, before }),
        _ => {
            let message = "limit is 1 to 200, cursor the `next` of the page before";
            Err(Error::new(Code::InvalidRequest, message))
        }
    }
}

/// The rows to be shown, and the cursor of the next page.
pub(super) fn cut<T>(mut rows: Vec<Numbered<T>>, page: Page) -> (Vec<T>, Option<String>) {
    let shown = usize::try_from(page.limit).unwrap_or(usize::MAX).saturating_sub(1);
    let more = rows.len() > shown;
    rows.truncate(shown);
    let next = rows.last().filter(|_| more).map(|row| row.sequence.to_string());
    (rows.into_iter().map(|row| row.value).collect(), next)
}
