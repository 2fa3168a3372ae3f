//! A message read from its place, and the mix-up check.
//!
//! Invariant: what is handed out names, in every PID segment, the patient of its path and nobody
//! else. It is byte for byte what the file holds.

use std::path::Path;

use bytes::Bytes;
use tokio::io::AsyncReadExt;

use super::super::report::reason;
use super::super::write::Refusal;
use crate::folder::hl7::{Message, media_type};

/// Longest message, in bytes. Those of the standard storage are text of some kilobytes.
pub const MESSAGE_BYTES_MAX: u64 = 4 << 20;

/// A message whose patient is that of its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The file.
    pub bytes: Bytes,
    /// Its media type, with the character set that it names.
    pub media_type: &'static str,
}

/// Reads and checks a file.
///
/// # Errors
/// Why it is not stored.
pub async fn read(path: &Path, patient: &str) -> Result<Checked, Refusal> {
    let unreadable = |_| Refusal::refused(reason::UNREADABLE);
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MESSAGE_BYTES_MAX + 1).read_to_end(&mut bytes).await.map_err(unreadable)?;
    if bytes.len() as u64 > MESSAGE_BYTES_MAX {
        return Err(Refusal::set_aside(reason::TOO_LONG));
    }
    check(bytes.into(), patient)
}

/// Checks a message against the patient of its path.
///
/// # Errors
/// Why it is set aside.
pub fn check(bytes: Bytes, patient: &str) -> Result<Checked, Refusal> {
    let message = Message::find(&bytes).ok_or_else(|| Refusal::set_aside(reason::NOT_HL7))?;
    let mut named = false;
    for ids in message.patient_ids() {
        if ids.iter().any(|id| id != patient) {
            return Err(Refusal::set_aside(reason::PATIENT_DIFFERS));
        }
        named |= !ids.is_empty();
    }
    if !named {
        return Err(Refusal::set_aside(reason::NO_PATIENT));
    }
    let media_type = media_type(&message);
    Ok(Checked { bytes, media_type })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "MSH|^~\\&|HIS|S|G|R|20240301120000||RDE^O11|1|P|2.5||||||~ISO IR87\r";

    fn said(rest: &str) -> Result<Checked, Refusal> {
        check(format!("{HEAD}{rest}").into(), "0001234")
    }

    #[test]
    fn a_message_must_be_about_the_patient_of_its_path() {
        // A kanji with a | in it stands before the id's end.
        let sound = said("PID|0001||0001234^\x1b$B<|\x1b(B^^^PI~77^^^^NI||x\r").unwrap();
        assert_eq!(sound.media_type, "x-application/hl7-v2+er7; charset=iso-2022-jp");
        assert!(said("PID|||0001234\rPID|||0001234").is_ok());
        let differs = Err(Refusal::set_aside(reason::PATIENT_DIFFERS));
        assert_eq!(said("PID|||1234"), differs, "leading zeros are part of an id");
        assert_eq!(said("PID|||0001234\rPID|||0001235"), differs, "another patient further on");
        assert_eq!(said("PID|||0001234~0001235"), differs);
        assert_eq!(said("PID|||0001234\rMSH|^~\\&|\rPID|||0001235"), differs, "another message further on");
        let none = Err(Refusal::set_aside(reason::NO_PATIENT));
        assert_eq!((said(""), said("PID|1"), said("PID|||77^^^^NI")), (none.clone(), none.clone(), none));
        for other in [&b""[..], b"\xfb\xfc", b"PID|||0001234", b"MSH"] {
            assert_eq!(check(Bytes::copy_from_slice(other), "0001234"), Err(Refusal::set_aside(reason::NOT_HL7)));
        }
    }

    #[tokio::test]
    async fn the_file_is_read_as_it_is_and_to_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m");
        let mut bytes = format!("{HEAD}PID|||0001234\rOBX|").into_bytes();
        bytes.extend([0xff, 0x00, 0x1b]);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path, "0001234").await.unwrap().bytes, bytes);
        bytes.resize(usize::try_from(MESSAGE_BYTES_MAX).unwrap() + 1, b' ');
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path, "0001234").await, Err(Refusal::set_aside(reason::TOO_LONG)));
        assert_eq!(read(&folder.path().join("no"), "0001234").await, Err(Refusal::refused(reason::UNREADABLE)));
    }

    proptest! {
        /// However a message is spoilt, it is never taken for a patient whose id does not stand in it.
        #[test]
        fn nothing_panics_and_nobody_is_mixed_up(at in 0_usize..90, with in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut bytes = format!("{HEAD}PID|1||0001234^^^^PI||x\r").into_bytes();
            let at = at.min(bytes.len());
            bytes.splice(at..at, with.clone());
            if check(bytes.into(), "0009999").is_ok() {
                prop_assert!(String::from_utf8_lossy(&with).contains("0009999"));
            }
        }
    }
}
