//! What an image takes in memory beside its pixels while it is unpacked: the decoders' own limits know nothing of that.

use image::ImageFormat;

/// A PNG's metadata, unpacked, may be this part of what an image may take: a colour profile of a few kilobytes may say of itself that it is
/// one of gigabytes. Real ones have some hundred kilobytes.
const METADATA_SHARE: u64 = 16;
/// What holds metadata grows by doubling, and so may be twice as large as that.
const GROWTH: u64 = 2;
/// Of each coefficient of a JPEG.
const COEFFICIENT_BYTES: u64 = 2;
/// Of each pixel of a WebP: the planes or the colours that it is put together from.
const WEBP_PIXEL_BYTES: u64 = 4;

/// The most that metadata may take where it is packed.
pub(super) fn metadata_bytes(memory_bytes: u64) -> u64 {
    memory_bytes / METADATA_SHARE
}

/// What is needed beside the pixels themselves, at most.
pub(super) fn bytes_beside(bytes: &[u8], format: ImageFormat, (width, height): (u32, u32), memory_bytes: u64) -> u64 {
    let n_pixels = u64::from(width) * u64::from(height);
    // The decoder of GIF counts what it takes. No other format is looked into.
    if format == ImageFormat::Png {
        metadata_bytes(memory_bytes) * GROWTH
    } else if format == ImageFormat::Jpeg {
        n_pixels.saturating_mul(n_kept_components(bytes) * COEFFICIENT_BYTES)
    } else if format == ImageFormat::WebP {
        // One that moves is drawn frame by frame, each of which is unpacked by itself.
        let n_times = if is_moving_webp(bytes) { 2 } else { 1 };
        n_pixels.saturating_mul(n_times * WEBP_PIXEL_BYTES)
    } else {
        0
    }
}

/// Of a JPEG whose components come one after the other, or again and again: all of their coefficients are kept until the last has come. One that
/// has everything of a place together (the usual one) keeps none.
fn n_kept_components(jpeg: &[u8]) -> u64 {
    let (mut rest, mut n_components, mut is_progressive) = (jpeg.get(2..).unwrap_or_default(), 0, false);
    while let [0xff, marker, after @ ..] = rest {
        match marker {
            // Fill bytes may stand before a marker.
            0xff => rest = &rest[1..],
            // These have no length.
            0x01 | 0xd0..=0xd9 => rest = after,
            _ => {
                let Some((length, _)) = after.split_first_chunk::<2>() else { break };
                let length = usize::from(u16::from_be_bytes(*length));
                match marker {
                    // Height and width stand before it.
                    0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                        n_components = after.get(7).copied().unwrap_or(0);
                        is_progressive = *marker == 0xc2;
                    }
                    0xda if !is_progressive && after.get(2).is_some_and(|n_here| *n_here == n_components) => return 0,
                    0xda => break,
                    _ => {}
                }
                rest = after.get(length.max(2)..).unwrap_or_default();
            }
        }
    }
    u64::from(n_components)
}

fn is_moving_webp(webp: &[u8]) -> bool {
    webp.get(12..16) == Some(b"VP8X") && webp.get(20).is_some_and(|flags| flags & 2 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, RgbImage};
    use std::io::Cursor;

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::from(RgbImage::new(10, 10)).write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn beside(bytes: &[u8], format: ImageFormat) -> u64 {
        bytes_beside(bytes, format, (10, 10), 1 << 20)
    }

    #[test]
    fn coefficients_are_kept_where_they_do_not_come_together() {
        let mut jpeg = encoded(ImageFormat::Jpeg);
        assert_eq!(beside(&jpeg, ImageFormat::Jpeg), 0);
        let at = |marker: u8| jpeg.windows(2).position(|pair| pair == [0xff, marker]).unwrap();
        let (frame, scan) = (at(0xc0), at(0xda));
        jpeg[scan + 4] = 1;
        assert_eq!(beside(&jpeg, ImageFormat::Jpeg), 600, "one component at a time");
        jpeg[scan + 4] = 3;
        jpeg[frame + 1] = 0xc2;
        assert_eq!(beside(&jpeg, ImageFormat::Jpeg), 600, "progressive");
        for broken in [&jpeg[..frame + 5], &[], &[0xff; 50], b"\xff\xd8\xff\xe0\0\0"] {
            assert_eq!(beside(broken, ImageFormat::Jpeg), 0);
        }
    }

    #[test]
    fn a_webp_is_put_together_from_parts() {
        let mut webp = encoded(ImageFormat::WebP);
        assert_eq!(beside(&webp, ImageFormat::WebP), 400);
        webp[12..16].copy_from_slice(b"VP8X");
        webp[20] = 2;
        assert_eq!(beside(&webp, ImageFormat::WebP), 800);
    }
}
