//! What whoever begins a new timeline has to say of the former members: `--fenced HOW` or `--not-fenced WHY`.

use clap::Args;

use super::exit::Failure;
use super::given::text;

/// Longest text that is kept of what people say.
pub const SAID_BYTES_MAX: usize = 500;

/// One of the two has to be given.
#[derive(Debug, Args)]
#[group(id = "fencing", required = true, multiple = false)]
pub struct Fencing {
    /// How the former members are known to be down, and kept down: "power cut", "disks destroyed". Journalled.
    #[arg(long, value_name = "HOW", value_parser = text)]
    fenced: Option<String>,
    /// Go on although former members may live: why, and who decided it; or that this is a rehearsal on a machine that has
    /// no way to them. Journalled.
    #[arg(long, value_name = "WHY", value_parser = text)]
    not_fenced: Option<String>,
}

impl Fencing {
    /// As it stands in journal and report.
    ///
    /// # Errors
    /// Words that are longer than [`SAID_BYTES_MAX`].
    pub fn words(&self) -> Result<String, Failure> {
        let words = match (&self.fenced, &self.not_fenced) {
            (Some(how), _) => how.clone(),
            (None, Some(why)) => format!("NOT FENCED, waived: {why}"),
            (None, None) => return Err(Failure::usage("--fenced HOW or --not-fenced WHY")),
        };
        fits("--fenced", &words)?;
        Ok(words)
    }
}

/// Refuses what is too long to be kept.
///
/// # Errors
/// More than [`SAID_BYTES_MAX`] bytes.
pub fn fits(option: &str, words: &str) -> Result<(), Failure> {
    match words.len() {
        0..=SAID_BYTES_MAX => Ok(()),
        given => Err(Failure::usage(format!("{option}: has {given} bytes, the limit is {SAID_BYTES_MAX}"))),
    }
}
