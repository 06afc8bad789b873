//! A body of lines, taken in blocks of whole lines as it arrives.

use super::incoming::Incoming;
use actix_web::{HttpRequest, dev::Payload};
use bytes::BytesMut;
use shared::Result;

/// A block is given when so much has arrived: large enough for what each block costs, small enough to hold little.
const BLOCK_BYTES: usize = 256 << 10;

pub(crate) struct Lines(Incoming);

impl Lines {
    pub(crate) fn open(request: &HttpRequest, payload: Payload) -> Result<Self> {
        Ok(Self(Incoming::open(request, payload)?))
    }

    /// Whole lines, or the rest; `None` at the end.
    pub(crate) async fn next_block(&mut self) -> Result<Option<BytesMut>> {
        let block = self.arrived().await?;
        self.0.begin_work()?;
        Ok(block)
    }

    async fn arrived(&mut self) -> Result<Option<BytesMut>> {
        let body = &mut self.0;
        let mut is_open = true;
        while is_open && body.buffer.len() < BLOCK_BYTES {
            is_open = body.read_more().await?;
        }
        loop {
            match body.buffer.take_lines() {
                Some(lines) => return Ok(Some(lines)),
                // A line longer than a block.
                None if body.read_more().await? => {}
                None => return Ok(Some(body.buffer.take_all()).filter(|rest| !rest.is_empty())),
            }
        }
    }

    /// The whole of it at once.
    pub(crate) async fn whole(&mut self) -> Result<BytesMut> {
        self.0.read_all().await?;
        Ok(self.0.buffer.take_all())
    }
}
