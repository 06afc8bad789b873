//! One attempt of a report. It may be repeated: the file of a run takes the place of that of the run before.

use super::{Format, ROWS_MAX, ReportTracks, Reported, Span, TRACKS_MAX, figures::Figures, page, table};
use crate::{
    Code, Context, Error, Result,
    files::{
        File,
        writing::{NewFile, Writer},
    },
    ids::{JobId, TrackId, UserId},
    points::{HourRow, stats},
    tracks::{manage, store},
};
use time::OffsetDateTime;

/// A track as a report names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) id: TrackId,
    pub(super) name: String,
}

/// Writes the report as a file of `owner_id`, and says how far it is: a percentage, and in words. An error that is a refusal
/// (`Error::is_refusal`) will be the same the next time.
pub async fn run(
    ctx: &Context,
    owner_id: UserId,
    job_id: JobId,
    asked: &ReportTracks,
    progress: impl Fn(f64, &str) + Sync,
) -> Result<Reported> {
    let now = ctx.clock.now();
    let span = asked.span(now)?;
    let tracks = tracks(ctx, owner_id, asked).await?;
    let name = asked.file_name(span);
    let content_type = match asked.format {
        Format::Csv => "text/csv",
        Format::Html => "text/html",
    };
    let new = NewFile { owner_id, name: &name, content_type: Some(content_type), size_hint: None, made_by: Some(job_id) };
    let mut report = Report { ctx, span, n_rows: 0, n_points: 0, writer: Writer::open(ctx, new).await?, progress: &progress };
    let written = match asked.format {
        Format::Csv => report.write_table(&tracks).await,
        Format::Html => report.write_page(&tracks, now).await,
    };
    let Report { n_rows, n_points, writer, .. } = report;
    if let Err(error) = written {
        writer.abandon().await;
        return Err(error);
    }
    let File { id, name, size_bytes, .. } = writer.finish().await?;
    Ok(Reported { file_id: id, name, size_bytes, tracks: tracks.len(), rows: n_rows, points: n_points })
}

/// Those that are asked for and may be read, by name. What was deleted since the submit is left out.
async fn tracks(ctx: &Context, owner_id: UserId, asked: &ReportTracks) -> Result<Vec<Named>> {
    let ids = asked.ids();
    let is_for_all = ids.is_some() && manage::owner_sees_all(ctx, owner_id).await?;
    let owner = (!is_for_all).then_some(owner_id);
    let found = store::names(ctx.by_values(), owner, ids.as_deref(), TRACKS_MAX + 1).await?;
    if found.len() > TRACKS_MAX {
        let detail = format!("There are more than {TRACKS_MAX} tracks: name those that the report is of.");
        return Err(Error::new(Code::ValidationFailed, detail));
    }
    let mut tracks: Vec<Named> = found.into_iter().map(|(id, name)| Named { id, name }).collect();
    tracks.sort_by(|one, other| (by_number(&one.name), one.id).cmp(&(by_number(&other.name), other.id)));
    Ok(tracks)
}

/// Puts "Bus 2" before "Bus 10".
pub(super) fn by_number(name: &str) -> (&str, u64) {
    let words = name.trim_end_matches(|character: char| character.is_ascii_digit());
    name[words.len()..].parse().map_or((name, 0), |number| (words, number))
}

/// A report being written.
struct Report<'a, P> {
    ctx: &'a Context,
    span: Span,
    n_rows: u64,
    n_points: i64,
    writer: Writer,
    progress: &'a P,
}

impl<P: Fn(f64, &str)> Report<'_, P> {
    async fn write_table(&mut self, tracks: &[Named]) -> Result<()> {
        self.writer.write(&table::header()?).await?;
        for (track_idx, track) in tracks.iter().enumerate() {
            let rows = self.rows(track.id).await?;
            self.writer.write(&table::rows(track, &rows)?).await?;
            self.tell(track_idx + 1, tracks.len());
        }
        Ok(())
    }

    async fn write_page(&mut self, tracks: &[Named], now: OffsetDateTime) -> Result<()> {
        let mut figures = Figures::new(self.span);
        for (track_idx, track) in tracks.iter().enumerate() {
            let rows = self.rows(track.id).await?;
            figures.add(track, &rows);
            self.tell(track_idx + 1, tracks.len());
        }
        self.writer.write(page::render(&figures, now).as_bytes()).await
    }

    /// The buckets of one track, oldest first.
    async fn rows(&mut self, track_id: TrackId) -> Result<Vec<HourRow>> {
        let Span { from, to, bucket } = self.span;
        let rows = stats::rows_of(self.ctx, track_id, bucket, from, to).await?;
        self.n_rows += rows.len() as u64;
        self.n_points += rows.iter().filter_map(|row| row.count).sum::<i64>();
        if self.n_rows > ROWS_MAX {
            let detail = format!("The report has more than {ROWS_MAX} rows: ask for fewer tracks, less time, or days.");
            return Err(Error::new(Code::ValidationFailed, detail));
        }
        Ok(rows)
    }

    fn tell(&self, n_done: usize, n_tracks: usize) {
        (self.progress)(100.0 * n_done as f64 / n_tracks as f64, &format!("{n_done} of {n_tracks} tracks"));
    }
}
