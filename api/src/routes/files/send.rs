//! One content on its way out: all of it or a range, at the pace of its reader, and not for ever.

use crate::{
    error::{ApiError, ApiResult},
    extract::{check_if_match_names, names},
};
use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError,
    body::SizedStream,
    http::{
        Method, StatusCode,
        header::{self, Charset, ContentDisposition, DispositionParam, DispositionType, ExtendedValue, HeaderMap, HeaderValue},
    },
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use shared::{
    Caller, Code, Context, Error, Result,
    files::{
        File,
        content::{self, Content},
    },
    turns::Turn,
};
use std::{ops::Range, time::Duration};
use tokio::sync::mpsc;

/// Chunks that wait for their reader, besides the one that is being read.
const CHUNKS_AHEAD: usize = 1;
/// Digits of the hash that make a tag: 128 bits.
const TAG_DIGITS: usize = 32;

/// What of a content is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    All,
    Part(Range<u64>),
    /// A range that has nothing of it.
    Outside,
}

pub(super) async fn send(ctx: &Context, caller: &Caller, request: &HttpRequest, file: File) -> ApiResult {
    let etag = format!("\"{}\"", &file.sha256[..TAG_DIGITS]);
    check_if_match_names(request, &etag)?;
    if names(request, &header::IF_NONE_MATCH, &etag) == Some(true) {
        return Ok(HttpResponse::NotModified().insert_header((header::ETAG, etag)).finish());
    }
    let range = match wanted(request.headers(), &etag, file.size_bytes) {
        Wanted::All => None,
        Wanted::Part(range) => Some(range),
        Wanted::Outside => return Ok(outside(file.size_bytes)),
    };
    let mut response = HttpResponse::build(if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK });
    add_headers(&mut response, &file, etag);
    if let Some(range) = &range {
        response.insert_header((header::CONTENT_RANGE, format!("bytes {}-{}/{}", range.start, range.end - 1, file.size_bytes)));
    }
    let n_bytes = range.as_ref().map_or(file.size_bytes, |range| range.end - range.start);
    if request.method() == Method::HEAD {
        return Ok(response.body(SizedStream::new(n_bytes, stream::empty::<Result<Bytes>>())));
    }
    let turn = ctx.files.download_turn(caller.user_id)?;
    let stall = Duration::from_secs(ctx.settings().download_stall_s);
    let content = content::open(ctx, file, range).await?;
    Ok(response.body(SizedStream::new(n_bytes, paced(content, stall, turn))))
}

fn add_headers(response: &mut HttpResponseBuilder, file: &File, etag: String) {
    response
        .insert_header((header::CONTENT_TYPE, file.content_type.as_str()))
        .insert_header(disposition(&file.name))
        .insert_header((header::ETAG, etag))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        // What would be a page is one without rights, should a browser show it after all.
        .insert_header((header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"))
        // As it is stored: a compressed content has other ranges than its tag says.
        .insert_header((header::CONTENT_ENCODING, "identity"));
}

/// For saving, under its name; a plain one for those who know no other.
fn disposition(name: &str) -> ContentDisposition {
    let plain: String =
        name.chars().map(|character| if character.is_ascii_graphic() || character == ' ' { character } else { '_' }).collect();
    let full = ExtendedValue { charset: Charset::Ext("UTF-8".to_owned()), language_tag: None, value: name.as_bytes().to_vec() };
    let parameters = vec![DispositionParam::Filename(plain), DispositionParam::FilenameExt(full)];
    ContentDisposition { disposition: DispositionType::Attachment, parameters }
}

fn outside(size_bytes: u64) -> HttpResponse {
    let detail = format!("The content has {size_bytes} bytes, and none of them is in the range.");
    let mut response = ApiError::new(Code::RangeNotSatisfiable, detail).error_response();
    let of = HeaderValue::try_from(format!("bytes */{size_bytes}")).expect("a number is header text");
    response.headers_mut().insert(header::CONTENT_RANGE, of);
    response
}

/// One range is answered. Several, or none that can be read, are answered with all of it, as the RFC allows; and so is one that was meant for
/// another content (`If-Range`).
fn wanted(headers: &HeaderMap, etag: &str, size_bytes: u64) -> Wanted {
    let is_for_this = headers.get(header::IF_RANGE).is_none_or(|tag| tag.as_bytes() == etag.as_bytes());
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok()).filter(|_| is_for_this);
    range.map_or(Wanted::All, |range| parse(range, size_bytes))
}

fn parse(range: &str, size_bytes: u64) -> Wanted {
    let Some((unit, spec)) = range.split_once('=') else { return Wanted::All };
    let Some((first, last)) = spec.trim().split_once('-').filter(|_| unit.trim().eq_ignore_ascii_case("bytes")) else { return Wanted::All };
    let number = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit()).then(|| text.parse().unwrap_or(u64::MAX));
    let (first, last) = (first.trim(), last.trim());
    let part = match (first.is_empty(), last.is_empty()) {
        // The last so many.
        (true, false) => number(last).map(|n| size_bytes.saturating_sub(n)..size_bytes),
        (false, true) => number(first).map(|first| first..size_bytes),
        (false, false) => number(first)
            .zip(number(last))
            .filter(|(first, last)| first <= last)
            .map(|(first, last)| first..last.saturating_add(1).min(size_bytes)),
        (true, true) => None,
    };
    match part {
        None => Wanted::All,
        Some(part) if part.is_empty() => Wanted::Outside,
        Some(part) => Wanted::Part(part),
    }
}

/// The bytes as their reader takes them. One that leaves them where they are for longer than `stall` gets no more: what it holds here is
/// needed for others.
fn paced(content: Content, stall: Duration, turn: Turn) -> impl stream::Stream<Item = Result<Bytes>> {
    let (to_reader, from_store) = mpsc::channel(CHUNKS_AHEAD);
    tokio::spawn(async move {
        let _turn = turn;
        let mut bytes = content.into_stream();
        while let Some(chunk) = bytes.next().await {
            let is_last = chunk.is_err();
            if to_reader.send_timeout(chunk, stall).await.is_err() || is_last {
                return;
            }
        }
    });
    let chunks = stream::unfold(from_store, |mut from_store| async move { Some((from_store.recv().await?, from_store)) });
    chunks.inspect_err(|error: &Error| tracing::warn!(%error, "a download broke off"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::some("bytes=2-4", Wanted::Part(2..5))]
    #[case::one("bytes=0-0", Wanted::Part(0..1))]
    #[case::rest("bytes=8-", Wanted::Part(8..10))]
    #[case::more_than_there_is("bytes=8-99999999999999999999999", Wanted::Part(8..10))]
    #[case::end("bytes=-3", Wanted::Part(7..10))]
    #[case::all_from_the_end("bytes=-30", Wanted::Part(0..10))]
    #[case::nothing_from_the_end("bytes=-0", Wanted::Outside)]
    #[case::behind("bytes=10-", Wanted::Outside)]
    #[case::far_behind("bytes=99999999999999999999999-", Wanted::Outside)]
    #[case::backwards("bytes=4-2", Wanted::All)]
    #[case::several("bytes=0-1,4-5", Wanted::All)]
    #[case::another_unit("items=0-1", Wanted::All)]
    #[case::no_range("bytes=", Wanted::All)]
    #[case::no_number("bytes=a-b", Wanted::All)]
    #[case::a_sign("bytes=+1-2", Wanted::All)]
    fn ranges(#[case] range: &str, #[case] is: Wanted) {
        assert_eq!(parse(range, 10), is);
    }

    #[test]
    fn nothing_has_no_range() {
        assert_eq!((parse("bytes=0-", 0), parse("bytes=-1", 0)), (Wanted::Outside, Wanted::Outside));
    }

    #[test]
    fn a_name_is_told_in_both_ways() {
        assert_eq!(disposition("Straße.csv").to_string(), "attachment; filename=\"Stra_e.csv\"; filename*=UTF-8''Stra%C3%9Fe.csv");
    }
}
