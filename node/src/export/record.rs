//! One version of a record: its folder, there only as a whole.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use kura_client::{DamagedRecord, GetError, Listed, Part, ParticipantNumber, Record, Summary};
use kura_cluster::hexadecimal;
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt};

use super::cannot_write;
use super::reader::Reader;
use super::sums::{Running, hexadecimal_of};
use super::target::{Target, create, sync};
use crate::cli::{Exit, Failure, Progress};

const DESCRIPTION: &str = "record.json";
/// Longest name that a part gives its file, in characters.
pub const PART_NAME_MAX: usize = 64;
/// Longest description that is read back, in bytes.
const DESCRIPTION_BYTES_MAX: u64 = 16 << 20;

/// A version as the index and its own folder tell of it.
#[derive(Debug, Serialize)]
pub struct Saved {
    /// What it is.
    #[serde(flatten)]
    pub summary: Summary,
    /// Its folder, below the copy.
    pub folder: String,
    /// Its files, in that folder.
    pub files: Vec<Described>,
    /// What verifying its signature had said when it was written; empty if it has none.
    pub signature_result: String,
    /// What the cluster itself found then; null: it did not check.
    pub signature_check: Value,
    /// SHA-256 of its description. Stands in the sums, not in the index.
    #[serde(skip)]
    description_sha256: String,
}

/// A file of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Described {
    /// Its name in the folder.
    pub file: String,
    /// The part that it is; empty for a signature or timestamp token.
    pub part: String,
    /// Its media type.
    pub media_type: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

/// What the index tells of a version.
#[derive(Debug, Serialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "nearly all are in the copy")]
pub enum Entry {
    /// It is in the copy.
    Saved(Saved),
    /// It does not open, so that the copy has its name alone.
    Damaged(DamagedRecord),
}

/// Why a version was not saved.
enum Unsaved {
    /// It does not open, or not to its end.
    Damaged,
    /// The copy cannot be made.
    Failed(Failure),
}

impl From<Failure> for Unsaved {
    fn from(failure: Failure) -> Self {
        Unsaved::Failed(failure)
    }
}

impl From<GetError> for Unsaved {
    fn from(error: GetError) -> Self {
        match error {
            GetError::Damaged(_) => Unsaved::Damaged,
            other => Unsaved::Failed(other.into()),
        }
    }
}

impl From<std::io::Error> for Unsaved {
    fn from(error: std::io::Error) -> Self {
        // A read through the client hands its own error on.
        match error.downcast::<GetError>() {
            Ok(read) => read.into(),
            Err(error) => Unsaved::Failed(error.into()),
        }
    }
}

impl Saved {
    /// Its files and their hashes, by their names below the copy.
    pub fn sums(&self) -> Vec<(String, String)> {
        let files = self.files.iter().map(|file| (format!("{}/{}", self.folder, file.file), file.sha256.clone()));
        files.chain([(format!("{}/{DESCRIPTION}", self.folder), self.description_sha256.clone())]).collect()
    }
}

/// Saves a version that a list or history tells of, or tells that it does not open.
pub async fn save_listed(
    reader: &Reader,
    number: &ParticipantNumber,
    target: &Target,
    listed: Listed,
    progress: &Progress,
) -> Result<Entry, Failure> {
    let summary = match listed {
        Listed::Record(summary) => summary,
        Listed::Damaged(damaged) => return Ok(Entry::Damaged(damaged)),
    };
    let damaged = DamagedRecord {
        record: summary.record,
        damaged: true,
        version: Some(summary.version),
        class: Some(summary.class),
        clinical_date: Some(summary.clinical_date),
        author_facility: summary.author_facility.clone(),
    };
    match save(reader, number, target, summary, progress).await {
        Ok(saved) => Ok(Entry::Saved(saved)),
        Err(Unsaved::Damaged) => Ok(Entry::Damaged(damaged)),
        Err(Unsaved::Failed(failure)) => Err(failure),
    }
}

/// Saves a version, or takes it over from a run that was cut.
async fn save(
    reader: &Reader,
    number: &ParticipantNumber,
    target: &Target,
    summary: Summary,
    progress: &Progress,
) -> Result<Saved, Unsaved> {
    let Summary { clinical_date, class, record, version, .. } = &summary;
    let folder = format!("records/{clinical_date}_{class}_{record}_v{version}");
    if let Some(saved) = taken_over(&target.path(&folder), &folder, &summary).await {
        progress.add(summary.bytes);
        return Ok(saved);
    }
    let failed = |path: &Path, error: std::io::Error| cannot_write(path, &error);
    let (path, temporary) = (target.path(&folder), target.temporary(&folder));
    if path.exists() {
        // It did not hold what it says.
        tokio::fs::remove_dir_all(&path).await.map_err(|error| failed(&path, error))?;
    }
    std::fs::DirBuilder::new().mode(0o700).create(&temporary).map_err(|error| failed(&temporary, error))?;
    let record = reader.get(number, summary.record, summary.version).await?;
    let saved = match fill(&temporary, folder.clone(), summary, record, progress).await {
        Ok(saved) => saved,
        Err(unsaved) => {
            if matches!(unsaved, Unsaved::Damaged) {
                tokio::fs::remove_dir_all(&temporary).await.map_err(|error| failed(&temporary, error))?;
            }
            return Err(unsaved);
        }
    };
    sync(&temporary).await?;
    target.put_in_place(&temporary, &folder).await?;
    Ok(saved)
}

async fn fill(
    path: &Path,
    folder: String,
    summary: Summary,
    record: Record,
    progress: &Progress,
) -> Result<Saved, Unsaved> {
    let parts: Vec<Part> = record.parts().to_vec();
    let tokens = [
        ("signature.p7s", "application/pkcs7-signature", record.signature().clone()),
        ("timestamp.tsr", "application/timestamp-reply", record.timestamp_token().clone()),
    ];
    let signature_result = record.signature_result().to_owned();
    let signature_check = serde_json::to_value(record.signature_check()).map_err(Failure::failed)?;
    let mut files = Vec::new();
    let mut body = record.into_reader();
    for (place, part) in parts.iter().enumerate() {
        let name: String = part.name.chars().take(PART_NAME_MAX).collect();
        let file = format!("{}-{}{}", place + 1, safe(&name), ending(&part.media_type));
        let sha256 = copy(&mut body, part.bytes, &path.join(&file), progress).await?;
        if sha256 != hexadecimal(part.sha256) {
            return Err(Failure::new(Exit::Damaged, "a part does not have the SHA-256 that the cluster names").into());
        }
        let (part, media_type) = (part.name.clone(), part.media_type.clone());
        files.push(Described { file, part, media_type, bytes: parts[place].bytes, sha256 });
    }
    // The last bytes are handed out only once they were found right; hearing that there are no more
    // ends the read in order.
    if !body.fill_buf().await?.is_empty() {
        return Err(Failure::new(Exit::Damaged, "more bytes came than the parts have").into());
    }
    for (file, media_type, bytes) in tokens.into_iter().filter(|(.., bytes)| !bytes.is_empty()) {
        let (file, media_type) = (file.to_owned(), media_type.to_owned());
        let sha256 = copy(&mut &bytes[..], bytes.len() as u64, &path.join(&file), progress).await?;
        files.push(Described { file, part: String::new(), media_type, bytes: bytes.len() as u64, sha256 });
    }
    let description_sha256 = String::new();
    let mut saved = Saved { summary, folder, files, signature_result, signature_check, description_sha256 };
    let text = serde_json::to_vec_pretty(&saved).map_err(Failure::failed)?;
    let description = path.join(DESCRIPTION);
    copy(&mut &text[..], text.len() as u64, &description, progress).await?;
    saved.description_sha256 = hexadecimal_of(&text);
    Ok(saved)
}

/// Copies so many bytes into a new file, synced; gives their SHA-256.
async fn copy(
    from: &mut (impl AsyncBufRead + Unpin),
    bytes: u64,
    path: &Path,
    progress: &Progress,
) -> Result<String, Unsaved> {
    let failed = |error: std::io::Error| cannot_write(path, &error);
    let (mut file, mut hash, mut left) = (create(path).await?, Running::default(), bytes);
    while left > 0 {
        let chunk = from.fill_buf().await?;
        if chunk.is_empty() {
            return Err(Failure::new(Exit::Damaged, "fewer bytes came than the parts have").into());
        }
        let take = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        hash.update(&chunk[..take]);
        file.write_all(&chunk[..take]).await.map_err(failed)?;
        from.consume(take);
        left -= take as u64;
        progress.add(take as u64);
    }
    file.sync_all().await.map_err(failed)?;
    Ok(hash.hexadecimal())
}

/// What a run that was cut had saved, if it is this and still what it says.
async fn taken_over(path: &Path, folder: &str, summary: &Summary) -> Option<Saved> {
    let description = path.join(DESCRIPTION);
    if tokio::fs::metadata(&description).await.ok()?.len() > DESCRIPTION_BYTES_MAX {
        return None;
    }
    let text = tokio::fs::read(description).await.ok()?;
    let told: Value = serde_json::from_slice(&text).ok()?;
    let mut files = Vec::new();
    for file in told["files"].as_array()? {
        let word = |field: &str| file[field].as_str().map(str::to_owned);
        let described = Described {
            file: word("file")?,
            part: word("part")?,
            media_type: word("media_type")?,
            bytes: file["bytes"].as_u64()?,
            sha256: word("sha256")?,
        };
        // A description that was tampered with must not lead out of the folder.
        if described.file != safe(&described.file) || hash(&path.join(&described.file)).await? != described.sha256 {
            return None;
        }
        files.push(described);
    }
    let saved = Saved {
        summary: summary.clone(),
        folder: folder.to_owned(),
        files,
        signature_result: told["signature_result"].as_str()?.to_owned(),
        signature_check: told["signature_check"].clone(),
        description_sha256: hexadecimal_of(&text),
    };
    // Whatever changed about it since (it was hidden, say), it is described anew.
    (serde_json::to_vec_pretty(&saved).ok()? == text).then_some(saved)
}

async fn hash(path: &Path) -> Option<String> {
    let mut file = tokio::io::BufReader::new(tokio::fs::File::open(path).await.ok()?);
    let mut hash = Running::default();
    loop {
        let chunk = file.fill_buf().await.ok()?;
        if chunk.is_empty() {
            return Some(hash.hexadecimal());
        }
        let length = chunk.len();
        hash.update(chunk);
        file.consume(length);
    }
}

/// A name of a part as a file's: letters, digits, `.`, `-` and `_` of ASCII, and not hidden.
pub fn safe(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    let name: String = name.chars().map(keep).collect();
    match name.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None => name,
    }
}

/// A file's ending by its media type.
pub fn ending(media_type: &str) -> &'static str {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    match essence {
        "application/dicom" => ".dcm",
        "application/pdf" => ".pdf",
        "application/xml" | "application/fhir+xml" | "text/xml" => ".xml",
        "application/json" | "application/fhir+json" => ".json",
        "x-application/hl7-v2+er7" => ".hl7",
        "text/plain" => ".txt",
        "image/jpeg" => ".jpg",
        "image/png" => ".png",
        "image/tiff" => ".tif",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parts_name_leads_nowhere() {
        for (name, file) in
            [("body", "body"), ("../../etc", "_./.._etc"), ("患者.pdf", "__.pdf"), ("a b/c", "a_b_c"), ("", "")]
        {
            assert_eq!(safe(name), file.replace('/', "_"), "{name}");
        }
        assert_eq!(safe(&safe("..x")), safe("..x"));
        assert_eq!((ending("text/plain; charset=utf-8"), ending("x/y")), (".txt", ""));
    }
}
