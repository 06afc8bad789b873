//! The points of a track, page by page.

use super::{
    PointView,
    store::{self, read::Range},
    time::{to_time, to_us},
};
use crate::{
    Caller, Code, Context, Error, Result,
    ids::TrackId,
    instant,
    page::{Key, Page, page_request},
    tracks::manage,
};
use serde::Deserialize;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

/// Which points of a track to list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListPoints {
    /// Only points of this time or later.
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[param(value_type = Option<String>, format = DateTime)]
    pub from: Option<OffsetDateTime>,
    /// Only points of before this time.
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[param(value_type = Option<String>, format = DateTime)]
    pub to: Option<OffsetDateTime>,
    /// `desc`, the newest first, when absent.
    #[serde(default)]
    #[param(inline)]
    pub order: Order,
    /// Items per page: 1 or more, cut to 1000; 50 when absent.
    #[param(minimum = 1, example = 50)]
    pub limit: Option<i64>,
    /// `next_cursor` of the page before, which had the same order.
    #[param(max_length = 200)]
    pub cursor: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    Asc,
    #[default]
    Desc,
}

/// Where a list goes on: beyond the point of this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Beyond(OffsetDateTime);

impl Key for Beyond {
    fn to_bytes(&self) -> Vec<u8> {
        to_us(self.0).to_be_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        to_time(i64::from_be_bytes(bytes.try_into().ok()?)).filter(|at| at.year() >= 1).map(Self)
    }
}

pub async fn list(ctx: &Context, caller: &Caller, track_id: TrackId, query: &ListPoints) -> Result<Page<PointView>> {
    let request = page_request::<Beyond>(query.limit, query.cursor.as_deref())?;
    let (from, to) = range(query.from, query.to)?;
    manage::require_readable(ctx, caller, track_id).await?;
    let range = Range { track_id, from, to, limit: request.fetch() };
    let beyond = request.before.map(|beyond| beyond.0);
    let rows = match query.order {
        Order::Asc => store::read::oldest(ctx.by_values(), range, beyond).await?,
        Order::Desc => store::read::newest(ctx.by_values(), range, beyond).await?,
    };
    Ok(Page::from_rows(rows, &request, |row| Beyond(row.recorded_at)).map(PointView::from))
}

/// All time there is, as far as it is not said: an end that is not said leaves nothing out, also what was recorded at the last instant.
pub(super) fn range(from: Option<OffsetDateTime>, to: Option<OffsetDateTime>) -> Result<(OffsetDateTime, Option<OffsetDateTime>)> {
    if from.zip(to).is_some_and(|(from, to)| from > to) {
        return Err(Error::new(Code::InvalidQuery, "`from` must not be after `to`."));
    }
    // What is beyond is asked for in vain, and PostgreSQL does not know every year that a text can name.
    let known = |at: OffsetDateTime| at.clamp(OffsetDateTime::UNIX_EPOCH, instant::LAST);
    Ok((from.map_or(OffsetDateTime::UNIX_EPOCH, known), to.map(known)))
}
