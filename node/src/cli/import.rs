//! `kura import …`: bringing a facility's existing records in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use kura_client::Date;

use super::acting::ActingOptions;
use super::exit::{Exit, Failure};
use super::files::{readable_folder, unreadable};
use super::output::{Output, Progress, bytes, counted, note, table};
use crate::import::participants::{Participants, Table, TableError};
use crate::import::report::{Report, Totals};
use crate::import::{AT_ONCE_MAX, Import, files, ssmix2};

/// `kura import …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// An SS-MIX2 standard storage: PID[0..3]/PID[3..6]/PID/day/kind/file.
    Ssmix2(Common),
    /// A folder of FHIR (JSON, XML), HL7 v2, DICOM, CDA and PDF files, recognised by content.
    Files {
        #[command(flatten)]
        common: Common,
        /// The clinical day of files that tell none, YYYY-MM-DD.
        #[arg(long, value_name = "DAY")]
        date: Option<Date>,
    },
}

/// Options of both.
#[derive(Debug, Args)]
pub struct Common {
    /// The folder. Nothing in it is changed. Run the same again to go on with a run that was cut, or
    /// for what has been added: what is stored already is not stored again.
    directory: PathBuf,
    /// Who is who: CSV in UTF-8 with the heading `patient,participant` (the patient id as the files
    /// have it, and the number of 16 digits) or `file,participant[,date]` (a path below the folder).
    /// Ids that the facility has linked need no table, and are compared with it.
    #[arg(long, value_name = "FILE")]
    participants: Option<PathBuf>,
    /// Write a JSON object a line for each file: what became of it, and why. It NAMES FILES, WHICH MAY
    /// HOLD PATIENT IDS: keep it as safe as the files. Only its owner may
    /// read it. A report of before is replaced, no other file is.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Files, or patients of an SS-MIX2 storage, that are worked on at the same time.
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=i64::from(AT_ONCE_MAX)))]
    at_once: u16,
    #[command(flatten)]
    acting: ActingOptions,
}

/// Runs it.
pub async fn run(command: Command, output: Output) -> Result<(), Failure> {
    let progress = Progress::counted(!output.json);
    match command {
        Command::Ssmix2(common) => {
            let told_to = common.report.clone();
            let (import, mut report) = common.ready(false).await?;
            let counting = count(&progress, &import.directory, ssmix2::count);
            let ended = ssmix2::run(import, &mut report, &progress).await;
            counting.inspect(tokio::task::JoinHandle::abort);
            finish(report, told_to.as_deref(), ended, progress, output)
        }
        Command::Files { common, date } => {
            let told_to = common.report.clone();
            let (import, mut report) = common.ready(true).await?;
            let counting = count(&progress, &import.directory, files::count);
            let ended = files::run(import, date, &mut report, &progress).await;
            counting.inspect(tokio::task::JoinHandle::abort);
            finish(report, told_to.as_deref(), ended, progress, output)
        }
    }
}

impl Common {
    /// Everything that can be found out before anybody is asked. A storage's files are not named one by one.
    async fn ready(self, takes_files: bool) -> Result<(Arc<Import>, Report), Failure> {
        let Common { directory, participants, report, at_once, acting } = self;
        let Some(user) = &acting.user else {
            return Err(Failure::usage("an import acts for a user of a facility, whose records they become")
                .next("add --as FACILITY/USER"));
        };
        let facility = user.facility().to_owned();
        readable_folder("DIRECTORY", &directory)?;
        let table = participants.as_deref().map(read_table).transpose()?;
        if !takes_files && table.as_ref().is_some_and(|table| !table.files().is_empty()) {
            return Err(Failure::usage(
                "--participants: the table names files: an SS-MIX2 storage is imported by patients",
            )
            .next("give a table with the columns patient and participant; nothing was imported"));
        }
        if let Some(report) = &report {
            Report::check(report)?;
        }
        let participants = Participants::new(table.unwrap_or_default());
        let acting = acting.act(None).await?;
        let report = Report::to(report.as_deref())?;
        let import = Import { acting, facility, directory, participants, at_once: at_once.into() };
        Ok((Arc::new(import), report))
    }
}

fn read_table(path: &Path) -> Result<Table, Failure> {
    Table::load(path).map_err(|error| match error {
        TableError::Read(error) => unreadable("--participants", path, &error),
        error => Failure::usage(format!("--participants: {}: {error}", path.display()))
            .next("mend the table, then run the same again: nothing was imported"),
    })
}

/// Counts the files beside the import, if anybody sees the bar.
fn count(progress: &Progress, directory: &Path, count: fn(&Path) -> u64) -> Option<tokio::task::JoinHandle<()>> {
    let (progress, directory) = (progress.clone(), directory.to_owned());
    progress.is_drawn().then(|| tokio::task::spawn_blocking(move || progress.total(count(&directory))))
}

fn finish(
    report: Report,
    told_to: Option<&Path>,
    ended: Result<(), Failure>,
    progress: Progress,
    output: Output,
) -> Result<(), Failure> {
    let totals = report.finish()?;
    // What did not begin has found nothing, and says why below.
    if ended.is_ok() || !totals.counts.is_empty() {
        progress.past(|| print(&totals, output))?;
    }
    drop(progress);
    ended?;
    taken(&totals, told_to)
}

/// Nothing is well unless something was taken and nothing was refused.
fn taken(totals: &Totals, told_to: Option<&Path>) -> Result<(), Failure> {
    if totals.needs_a_look() {
        return Err(Failure::new(Exit::Partly, "something was refused or set aside")
            .next(format!("{}; mend the cause and run the same again", look_at(told_to))));
    }
    if totals.files == 0 {
        return Err(Failure::new(Exit::NotFound, "DIRECTORY holds no files: nothing was imported")
            .next("name the folder that holds them"));
    }
    if !totals.took_something() {
        let words = format!("nothing was imported: {} skipped", counted_are(totals.files));
        return Err(Failure::new(Exit::Partly, words).next(format!(
            "see that DIRECTORY is the storage's own folder (of ssmix2 the one above the patients' first three digits), \
             neither one above nor one below: {}",
            look_at(told_to)
        )));
    }
    Ok(())
}

fn counted_are(files: u64) -> String {
    match files {
        1 => "the only file was".into(),
        files => format!("all {files} files were"),
    }
}

/// Where it stands what became of each file.
fn look_at(told_to: Option<&Path>) -> String {
    match told_to {
        Some(path) => format!("{} tells of each file what became of it", path.display()),
        None => "run the same with --report FILE, which tells of each file what became of it".into(),
    }
}

fn print(totals: &Totals, output: Output) -> Result<(), Failure> {
    if output.json {
        return output.line(totals);
    }
    if totals.counts.is_empty() {
        return Ok(());
    }
    let mut rows = table(&["outcome", "reason", "files", "size"]);
    for count in &totals.counts {
        let row = [count.outcome.word().to_owned(), count.reason.clone(), count.files.to_string(), bytes(count.bytes)];
        rows.add_row(row);
    }
    output.table(rows)?;
    note(&format!("{} in all; {} hidden", counted(totals.files, "file"), counted(totals.hidden, "record")));
    if totals.hidden_not_yet_beyond > 0 {
        let hidings = counted(totals.hidden_not_yet_beyond, "hiding");
        note(&format!("{hidings} committed, but not yet beyond the prefecture"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::report::{Line, Outcome, reason};

    #[test]
    fn an_import_that_takes_nothing_does_not_end_well() {
        let exit = |lines: &[Line]| {
            let mut report = Report::to(None).unwrap();
            lines.iter().for_each(|line| report.add(line).unwrap());
            let ended = taken(&report.finish().unwrap(), None);
            ended.map_err(|failure| (failure.exit, failure.next.unwrap().contains("mend the cause")))
        };
        let skipped = Line::because("a", Outcome::Skipped, reason::OUTSIDE_LAYOUT, 1);
        assert_eq!(exit(&[]), Err((Exit::NotFound, false)));
        assert_eq!(
            exit(&[skipped.clone(), skipped.clone()]),
            Err((Exit::Partly, false)),
            "another folder is to be named"
        );
        let refused = Line::because("b", Outcome::Refused, reason::EMPTY, 0);
        assert_eq!(exit(&[skipped.clone(), refused]), Err((Exit::Partly, true)));
        for taken in [Outcome::Stored, Outcome::Repeated] {
            assert_eq!(exit(&[skipped.clone(), Line::new("b", taken, 1)]), Ok(()));
        }
    }

    #[test]
    fn a_report_that_was_asked_for_is_named_and_not_advised() {
        let advice = look_at(Some(Path::new("report.ndjson")));
        assert!(advice.contains("report.ndjson") && !advice.contains("--report"), "{advice}");
        assert!(look_at(None).contains("--report FILE"));
    }
}
