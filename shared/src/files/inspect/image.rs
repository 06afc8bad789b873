//! Images, which may be made to do harm: a few kilobytes that say of themselves that they are a picture of gigabytes. What they say is read
//! first, and nothing is unpacked that would take more memory than an image may. Call it where blocking does no harm.

use super::{Problem, beside};
use crate::config::Settings;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, ImageResult, codecs::jpeg::JpegEncoder};
use std::io::Cursor;

/// Longest side of an image. One that is longer and not too large is so thin that nothing would be seen of it.
const SIDE_MAX: u32 = 1 << 16;
/// Of thumbnails, 1 to 100.
const JPEG_QUALITY: u8 = 80;

/// What an image may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) file_bytes: u64,
    pub(super) memory_bytes: u64,
    /// Of the thumbnail, in pixels.
    pub(super) side: u32,
}

impl Limits {
    pub(super) fn new(settings: &Settings) -> Self {
        let (file_bytes, memory_bytes) = (settings.image_max_bytes.0 as u64, settings.image_max_memory_bytes.0 as u64);
        Self { file_bytes, memory_bytes, side: settings.thumbnail_side }
    }
}

/// What came of looking into an image.
#[derive(Debug, Default)]
pub(super) struct Drawn {
    pub(super) width: Option<u32>,
    pub(super) height: Option<u32>,
    pub(super) problem: Option<Problem>,
    /// Its type and its bytes.
    pub(super) thumbnail: Option<(&'static str, Vec<u8>)>,
}

impl Drawn {
    pub(super) fn broken(detail: String) -> Self {
        Self { problem: Some(Problem { code: "broken", detail }), ..Self::default() }
    }
}

/// The formats that are looked into.
pub(super) fn format_of(content_type: &str) -> Option<ImageFormat> {
    match content_type {
        "image/png" => Some(ImageFormat::Png),
        "image/jpeg" => Some(ImageFormat::Jpeg),
        "image/gif" => Some(ImageFormat::Gif),
        "image/webp" => Some(ImageFormat::WebP),
        _ => None,
    }
}

pub(super) fn name_of(format: ImageFormat) -> &'static str {
    format.extensions_str().first().copied().unwrap_or("unknown")
}

pub(super) fn ending_of(content_type: &str) -> &'static str {
    format_of(content_type).map_or("bin", name_of)
}

/// Its size, and a thumbnail if wanted; of a moving image, of what is seen first.
pub(super) fn draw(bytes: &[u8], format: ImageFormat, limits: Limits, wants_thumbnail: bool) -> Drawn {
    let mut drawn = Drawn::default();
    if let Err(error) = try_draw(bytes, format, limits, wants_thumbnail, &mut drawn) {
        let code = if matches!(error, ImageError::Limits(_)) { "too_large" } else { "broken" };
        drawn.problem = Some(Problem { code, detail: error.to_string() });
    }
    drawn
}

fn try_draw(bytes: &[u8], format: ImageFormat, limits: Limits, wants_thumbnail: bool, drawn: &mut Drawn) -> ImageResult<()> {
    let mut bounds = image::Limits::no_limits();
    bounds.max_alloc = Some(beside::metadata_bytes(limits.memory_bytes));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // Of a PNG it is the metadata alone that is unpacked here: what this leaves out is nothing that a thumbnail needs.
    reader.limits(bounds.clone());
    let mut decoder = reader.into_decoder()?;
    // Before the limits are asked, so that a caller hears how large it would have been.
    let (width, height) = decoder.dimensions();
    (drawn.width, drawn.height) = (Some(width), Some(height));
    bounds.max_image_width = Some(SIDE_MAX);
    bounds.max_image_height = Some(SIDE_MAX);
    bounds.max_alloc = Some(limits.memory_bytes);
    bounds.check_dimensions(width, height)?;
    if !wants_thumbnail {
        return Ok(());
    }
    bounds.reserve(decoder.total_bytes())?;
    bounds.reserve(beside::bytes_beside(bytes, format, (width, height), limits.memory_bytes))?;
    decoder.set_limits(bounds)?;
    let orientation = decoder.orientation()?;
    let image = DynamicImage::from_decoder(decoder)?;
    // An image that is smaller stays as it is.
    let side = limits.side.min(image.width().max(image.height()));
    let mut small = image.thumbnail(side, side);
    drop(image);
    small.apply_orientation(orientation);
    drawn.thumbnail = Some(encode(&small)?);
    Ok(())
}

fn encode(small: &DynamicImage) -> ImageResult<(&'static str, Vec<u8>)> {
    let mut bytes = Vec::new();
    if small.color().has_alpha() {
        small.to_rgba8().write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
        return Ok(("image/png", bytes));
    }
    small.to_rgb8().write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))?;
    Ok(("image/jpeg", bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::{ImageEncoder, Rgb, RgbImage, Rgba, RgbaImage, codecs::png::PngEncoder};
    use std::{fs, process::Command};

    const LIMITS: Limits = Limits { file_bytes: 1 << 20, memory_bytes: 4 << 20, side: 64 };

    fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// A GIF of 43 bytes that says it is a picture of 17 gigabytes.
    fn bomb() -> Vec<u8> {
        let all = [0xff; 2];
        [b"GIF89a".as_slice(), &all, &all, &[0x80, 0, 0], &[0; 6], &[0x2c, 0, 0, 0, 0], &all, &all, &[0], &[2, 2, 0x44, 1, 0, 0x3b]]
            .concat()
    }

    #[test]
    fn images_have_a_size_and_a_small_picture() {
        let photo = encoded(RgbImage::from_pixel(300, 100, Rgb([200, 10, 10])), ImageFormat::Jpeg);
        let drawn = draw(&photo, ImageFormat::Jpeg, LIMITS, true);
        assert_eq!((drawn.width, drawn.height, drawn.problem), (Some(300), Some(100), None));
        let (content_type, small) = drawn.thumbnail.unwrap();
        let small = ::image::load_from_memory(&small).unwrap();
        assert_eq!((content_type, small.width(), small.height()), ("image/jpeg", 64, 21));
        let icon = encoded(RgbaImage::from_pixel(20, 10, Rgba([1, 2, 3, 4])), ImageFormat::Png);
        let (content_type, small) = draw(&icon, ImageFormat::Png, LIMITS, true).thumbnail.unwrap();
        let small = ::image::load_from_memory(&small).unwrap();
        assert_eq!((content_type, small.width(), small.height()), ("image/png", 20, 10), "what is small stays so");
        for format in [ImageFormat::Gif, ImageFormat::WebP] {
            let drawn = draw(&encoded(RgbaImage::new(30, 40), format), format, LIMITS, false);
            assert_eq!((drawn.width, drawn.height, drawn.thumbnail), (Some(30), Some(40), None));
        }
    }

    #[test]
    fn an_image_that_would_not_fit_is_not_unpacked() {
        let plain = encoded(RgbaImage::new(1_100, 1_000), ImageFormat::Png);
        assert!(plain.len() < 200_000, "four megabytes of nothing are small");
        for (bytes, format, width) in [(plain, ImageFormat::Png, 1_100), (bomb(), ImageFormat::Gif, 65_535)] {
            let drawn = draw(&bytes, format, LIMITS, true);
            assert_eq!((drawn.width, drawn.problem.map(|problem| problem.code)), (Some(width), Some("too_large")));
            assert!(drawn.thumbnail.is_none());
        }
    }

    #[test]
    fn what_is_no_image_after_all_is_broken() {
        let whole = encoded(RgbaImage::from_fn(60, 60, |x, y| Rgba([x as u8, y as u8, 7, 255])), ImageFormat::Png);
        for bytes in [&whole[..whole.len() / 2], b"\x89PNG\r\n\x1a\n", b"", &[0xff; 500]] {
            assert_eq!(draw(bytes, ImageFormat::Png, LIMITS, true).problem.map(|problem| problem.code), Some("broken"));
        }
    }

    /// A picture of a few pixels with 64 MiB of a colour profile, which is some ten kilobytes long while it is packed.
    fn heavy_profile() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = PngEncoder::new(&mut bytes);
        encoder.set_icc_profile(vec![0; 64 << 20]).unwrap();
        RgbImage::new(30, 20).write_with_encoder(encoder).unwrap();
        assert!(bytes.len() < 1 << 20, "{} bytes", bytes.len());
        bytes
    }

    /// The most that this process ever had in memory.
    fn peak_kib() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn a_profile_that_would_not_fit_is_not_unpacked() {
        let name = concat!(module_path!(), "::measured_alone").split_once("::").unwrap().1;
        let done = Command::new(std::env::current_exe().unwrap()).args(["--exact", "--ignored", name]).output().unwrap();
        let told = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && told.contains("1 passed"), "{told}");
    }

    #[test]
    #[ignore = "in a process of its own, whose memory nobody else uses: the test above runs it"]
    fn measured_alone() {
        let bytes = heavy_profile();
        // What it was made with does not count.
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let before_kib = peak_kib();
        let drawn = draw(&bytes, ImageFormat::Png, LIMITS, true);
        assert_eq!((drawn.width, drawn.problem), (Some(30), None), "what is left out is nothing that is drawn");
        assert!(drawn.thumbnail.is_some());
        let taken_kib = peak_kib() - before_kib;
        assert!(taken_kib < 8 << 10, "{taken_kib} KiB");
    }
}
