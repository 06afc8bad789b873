//! An S3-compatible bucket as the store. A file of one part is one request, a larger one an upload in parts, which exists from its first
//! part to its completion, and is paid for: its name is written down, so that it can be aborted when its process has died.

use super::{LISTED_MAX, Listed, Listing, Object, http::Connector, io_error, parse_name};
use crate::{Result, config::Settings};
use bytes::Bytes;
use futures_util::stream::{StreamExt, TryStreamExt};
use object_store::{
    Error as StoreError, GetOptions, GetRange, ObjectStore, ObjectStoreExt, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    multipart::{MultipartStore, PartId},
    path::Path,
};
use secrecy::{ExposeSecret, SecretString};
use std::{io, ops::Range, sync::Arc, time::Duration};
use time::OffsetDateTime;

/// The smallest that S3 takes for a part that is not the last: what an upload holds.
pub(super) const PART_BYTES: usize = 5 << 20;
/// What is tried again within a request: a store that is away for longer is told to the caller.
const TRIES: usize = 2;
const TRIED_FOR: Duration = Duration::from_secs(20);

/// Where the bucket is, and what opens it.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    name: String,
    prefix: String,
    endpoint: Option<String>,
    region: String,
    keys: Option<(SecretString, SecretString)>,
}

impl Bucket {
    pub(super) fn new(settings: &Settings, bucket: &str, prefix: &str) -> Self {
        Self {
            name: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: settings.storage_s3_endpoint.clone(),
            region: settings.storage_s3_region.clone(),
            keys: settings.storage_s3_access_key_id.clone().zip(settings.storage_s3_secret_access_key.clone()),
        }
    }
}

#[derive(Debug)]
pub(super) struct S3 {
    bucket: Arc<AmazonS3>,
    prefix: Path,
}

impl S3 {
    pub(super) fn open(bucket: &Bucket) -> Result<Self, StoreError> {
        let retry = RetryConfig { max_retries: TRIES, retry_timeout: TRIED_FOR, ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&bucket.name)
            .with_region(&bucket.region)
            .with_retry(retry)
            .with_allow_http(true)
            .with_http_connector(Connector);
        if let Some(endpoint) = &bucket.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some((id, secret)) = &bucket.keys {
            builder = builder.with_access_key_id(id.expose_secret()).with_secret_access_key(secret.expose_secret());
        }
        Ok(Self { bucket: Arc::new(builder.build()?), prefix: Path::from(bucket.prefix.as_str()) })
    }

    fn full(&self, path: &Path) -> Path {
        path.parts().fold(self.prefix.clone(), |full, part| full.join(part))
    }

    pub(super) fn begin(&self, path: Path) -> S3Upload {
        S3Upload { bucket: Arc::clone(&self.bucket), path: self.full(&path), id: None, parts: Vec::new() }
    }

    pub(super) async fn read(&self, path: &Path, range: Option<Range<u64>>) -> Result<Object, StoreError> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let found = self.bucket.get_opts(&self.full(path), options).await?;
        let size_bytes = found.meta.size;
        let bytes = found.into_stream().map_err(|error| super::failed("read", error)).boxed();
        Ok(Object { size_bytes, bytes })
    }

    pub(super) async fn remove(&self, path: &Path, upload_id: Option<&str>) -> Result<(), StoreError> {
        let path = self.full(path);
        if let Some(id) = upload_id {
            match self.bucket.abort_multipart(&path, &id.to_owned()).await {
                // It was completed, or aborted before.
                Ok(()) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.bucket.delete(&path).await
    }

    pub(super) async fn windows(&self, prefix: &Path) -> Result<Vec<String>, StoreError> {
        let found = self.bucket.list_with_delimiter(Some(&self.full(prefix))).await?;
        Ok(found.common_prefixes.iter().filter_map(|prefix| prefix.filename().map(str::to_owned)).collect())
    }

    pub(super) async fn list(&self, prefix: &Path) -> Result<Listing, StoreError> {
        let prefix = self.full(prefix);
        let found: Vec<_> = self.bucket.list(Some(&prefix)).take(LISTED_MAX).try_collect().await?;
        let is_cut = found.len() == LISTED_MAX;
        let objects = found.into_iter().filter_map(|found| {
            let (file_id, is_partial) = parse_name(found.location.filename()?)?;
            let modified_at = OffsetDateTime::from_unix_timestamp(found.last_modified.timestamp()).ok()?;
            Some(Listed { file_id, modified_at, is_partial })
        });
        Ok(Listing { objects: objects.collect(), is_cut })
    }
}

#[derive(Debug)]
pub(super) struct S3Upload {
    bucket: Arc<AmazonS3>,
    path: Path,
    id: Option<String>,
    parts: Vec<PartId>,
}

impl S3Upload {
    pub(super) async fn announce(&mut self) -> Result<String, StoreError> {
        let id = self.bucket.create_multipart(&self.path).await?;
        Ok(self.id.insert(id).clone())
    }

    pub(super) async fn write_part(&mut self, part: Bytes) -> Result<(), StoreError> {
        let Some(id) = &self.id else { return Err(io_error(io::Error::other("a part came before its upload"))) };
        let part = self.bucket.put_part(&self.path, id, self.parts.len(), part.into()).await?;
        self.parts.push(part);
        Ok(())
    }

    pub(super) async fn complete(&mut self, last: Bytes) -> Result<(), StoreError> {
        if self.id.is_none() {
            return self.bucket.put(&self.path, last.into()).await.map(drop);
        }
        if !last.is_empty() {
            self.write_part(last).await?;
        }
        let Some(id) = &self.id else { return Ok(()) };
        self.bucket.complete_multipart(&self.path, id, std::mem::take(&mut self.parts)).await.map(drop)
    }
}
