//! RocksDB's files that it gives no call to check: blob files and write-ahead files. Formats: RocksDB's
//! `db/blob/blob_log_format.h` and `db/log_format.h`.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::{Pace, ScrubError, failed};

const READ_BYTES: usize = 256 << 10;

const BLOB_MAGIC: [u8; 4] = 2_395_959_u32.to_le_bytes();
const BLOB_HEADER_BYTES: u64 = 30;
const BLOB_RECORD_HEADER_BYTES: usize = 32;
const BLOB_FOOTER_BYTES: u64 = 32;
/// A row's key and value are far below this.
const BLOB_RECORD_BYTES_MAX: u64 = 64 << 20;

const LOG_BLOCK_BYTES: usize = 32 << 10;
const LOG_HEADER_BYTES: usize = 7;

/// RocksDB stores checksums so that a checksum of bytes with checksums in them is sound.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn number_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut number = [0; N];
    if let Some(found) = bytes.get(at..at + N) {
        number.copy_from_slice(found);
    }
    number
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(number_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(number_at(bytes, at))
}

fn damaged(path: &Path, at: u64, what: &str) -> ScrubError {
    ScrubError::Damaged { file: path.display().to_string(), what: format!("{what} at byte {at}") }
}

/// Files of a directory that are a number with this ending.
pub(super) fn numbered(directory: &Path, extension: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = std::fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    let numbered = entries.into_iter().map(|entry| entry.path()).filter_map(|path| {
        let stem = path.file_stem()?.to_str()?.parse().ok()?;
        (path.extension()? == extension).then_some((stem, path))
    });
    Ok(numbered.collect())
}

/// Checks every record of a blob file that is whole: header, records, footer.
pub(super) fn check_blob_file(path: &Path, pace: Pace<'_>) -> Result<(), ScrubError> {
    let file = File::open(path).map_err(|error| failed(path, &error))?;
    let length = file.metadata().map_err(|error| failed(path, &error))?.len();
    let mut source = BufReader::with_capacity(READ_BYTES, file);
    let short = |at| {
        move |error: io::Error| match error.kind() {
            ErrorKind::UnexpectedEof => damaged(path, at, "the file ends too early"),
            _ => failed(path, &error),
        }
    };
    let mut header = [0; BLOB_HEADER_BYTES as usize];
    source.read_exact(&mut header).map_err(short(0))?;
    if header[..4] != BLOB_MAGIC || u32_at(&header, 4) != 1 {
        return Err(damaged(path, 0, "this is no blob file's header"));
    }
    let end = length.saturating_sub(BLOB_FOOTER_BYTES);
    let (mut at, mut records) = (BLOB_HEADER_BYTES, 0_u64);
    let mut body = Vec::new();
    while at < end {
        let mut record = [0; BLOB_RECORD_HEADER_BYTES];
        source.read_exact(&mut record).map_err(short(at))?;
        if u32_at(&record, 24) != masked(crc32c::crc32c(&record[..24])) {
            return Err(damaged(path, at, "the checksum of a record's header does not match"));
        }
        let bytes = u64_at(&record, 0).saturating_add(u64_at(&record, 8));
        if bytes > BLOB_RECORD_BYTES_MAX {
            return Err(damaged(path, at, "a record is longer than any"));
        }
        body.resize(usize::try_from(bytes).unwrap_or_default(), 0);
        source.read_exact(&mut body).map_err(short(at))?;
        if u32_at(&record, 28) != masked(crc32c::crc32c(&body)) {
            return Err(damaged(path, at, "the checksum of a record does not match"));
        }
        let read = BLOB_RECORD_HEADER_BYTES as u64 + bytes;
        (at, records) = (at + read, records + 1);
        pace(read)?;
    }
    let mut footer = [0; BLOB_FOOTER_BYTES as usize];
    source.read_exact(&mut footer).map_err(short(at))?;
    let is_whole = at == end
        && footer[..4] == BLOB_MAGIC
        && u64_at(&footer, 4) == records
        && u32_at(&footer, 28) == masked(crc32c::crc32c(&footer[..28]));
    if is_whole { Ok(()) } else { Err(damaged(path, at, "the file's end does not fit its records")) }
}

/// Checks every record of a write-ahead file. The end of the newest one may be just being written.
pub(super) fn check_log_file(path: &Path, is_newest: bool, pace: Pace<'_>) -> Result<(), ScrubError> {
    let mut source = File::open(path).map_err(|error| failed(path, &error))?;
    let mut block = Vec::with_capacity(LOG_BLOCK_BYTES);
    let mut before = 0;
    loop {
        block.clear();
        let read = source.by_ref().take(LOG_BLOCK_BYTES as u64).read_to_end(&mut block);
        let read = read.map_err(|error| failed(path, &error))?;
        if let Err((at, what)) = check_log_block(&block) {
            let is_end = read < LOG_BLOCK_BYTES;
            // Nobody waits for what is not whole yet. But a record that lies before another one is whole.
            let is_torn = what == TORN && is_end && is_newest;
            return if is_torn { Ok(()) } else { Err(damaged(path, before + at as u64, what)) };
        }
        if read < LOG_BLOCK_BYTES {
            return Ok(());
        }
        before += read as u64;
        pace(read as u64)?;
    }
}

const TORN: &str = "a record ends beyond the file's end";

fn check_log_block(block: &[u8]) -> Result<(), (usize, &'static str)> {
    let mut at = 0;
    // What is too short for a header at a block's end is filled with zeros.
    while at + LOG_HEADER_BYTES <= block.len() {
        let length = usize::from(u16::from_le_bytes(number_at(block, at + 4)));
        if block[at + 6] == 0 && length == 0 {
            return match block[at..].iter().all(|byte| *byte == 0) {
                true => Ok(()),
                false => Err((at, "what should be empty is not")),
            };
        }
        let end = at + LOG_HEADER_BYTES + length;
        if end > LOG_BLOCK_BYTES {
            return Err((at, "a record ends beyond its block"));
        }
        let Some(covered) = block.get(at + 6..end) else { return Err((at, TORN)) };
        if u32_at(block, at) != masked(crc32c::crc32c(covered)) {
            return Err((at, "the checksum of a record does not match"));
        }
        at = end;
    }
    if at < block.len() && block.len() < LOG_BLOCK_BYTES { Err((at, TORN)) } else { Ok(()) }
}
