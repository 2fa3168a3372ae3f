//! From what a file says of its patient to a participant's number: by a table that the importer
//! gives, and by the local ids that the facility has linked.
//!
//! Invariants
//! - Every way that leads to a number is tried, and all numbers found must be one person's. A table
//!   does not overrule a link, nor one id another.
//! - Only a facility's own patient id is looked up among its links.
//! - No number and no id appears in an error or in `Debug`.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use kura_client::{ActingClient, Date, ListError, ParticipantNumber, limit};
use quick_cache::sync::Cache;

use super::report::reason;
use super::write::Refusal;
use crate::cli::Failure;
use crate::folder::PatientId;

/// Most rows of a table.
const ROWS_MAX: usize = 5_000_000;
/// Local ids whose participant is remembered.
const RESOLVED_MAX: usize = 10_000;
/// Numbers of which is remembered whose they are.
const PERSONS_MAX: usize = 10_000;

/// A table that does not say what it must. Rows are counted from 1, the heading being row 1.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The system does not let it be read.
    #[error("the table of participants could not be read: {0}")]
    Read(std::io::Error),
    /// Not CSV.
    #[error("the table of participants is not CSV with the same columns in every row")]
    Form,
    /// In another encoding, such as Shift_JIS.
    #[error(
        "row {row} of the table of participants is not in UTF-8: save the table as UTF-8 (in Excel: \"CSV UTF-8\")"
    )]
    Encoding {
        /// Which.
        row: u64,
    },
    /// A column is missing, or one is unknown.
    #[error(
        "the table of participants needs a heading with the columns participant, and patient or file; date is optional; {0}"
    )]
    Heading(String),
    /// A row is wrong.
    #[error("row {row} of the table of participants: {why}")]
    Row {
        /// Which.
        row: u64,
        /// What is wrong with it, without its content.
        why: &'static str,
    },
}

/// The table: CSV in UTF-8 with a heading.
#[derive(Default)]
pub struct Table {
    patients: HashMap<String, ParticipantNumber>,
    files: HashMap<String, (ParticipantNumber, Option<Date>)>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} patients, {} files)", self.patients.len(), self.files.len())
    }
}

/// Where the columns stand.
struct Columns {
    patient: Option<usize>,
    file: Option<usize>,
    participant: usize,
    date: Option<usize>,
}

impl Table {
    /// Reads a table.
    ///
    /// # Errors
    /// [`TableError`], naming the row.
    pub fn load(path: &Path) -> Result<Table, TableError> {
        let file = std::fs::File::open(path).map_err(TableError::Read)?;
        Table::read(file)
    }

    pub(crate) fn read(input: impl Read) -> Result<Table, TableError> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(input);
        // The library's messages can repeat what stands in the file.
        let unread = |row| {
            move |error: csv::Error| match error.kind() {
                csv::ErrorKind::Utf8 { .. } => TableError::Encoding { row },
                _ if row == 1 => TableError::Form,
                _ => TableError::Row { row, why: "not CSV with the heading's columns" },
            }
        };
        let columns = Columns::of(reader.headers().map_err(unread(1))?)?;
        let mut table = Table::default();
        for (place, record) in reader.records().enumerate() {
            let row = place as u64 + 2;
            let record = record.map_err(unread(row))?;
            if place >= ROWS_MAX {
                return Err(TableError::Row { row, why: "there are more than 5,000,000 rows" });
            }
            table.add(&columns, &record).map_err(|why| TableError::Row { row, why })?;
        }
        Ok(table)
    }

    fn add(&mut self, columns: &Columns, record: &csv::StringRecord) -> Result<(), &'static str> {
        let cell = |place: Option<usize>| place.and_then(|place| record.get(place)).unwrap_or_default();
        let number: ParticipantNumber =
            cell(Some(columns.participant)).parse().map_err(|_| "participant is not a number of 16 digits")?;
        let (patient, file, date) = (cell(columns.patient), cell(columns.file), cell(columns.date));
        let date = if date.is_empty() { None } else { Some(date.parse().map_err(|_| "date is not YYYY-MM-DD")?) };
        match (patient.is_empty(), file.is_empty()) {
            (false, true) if date.is_some() => Err("a date goes with a file, not with a patient"),
            (false, true) => match self.patients.insert(patient.to_owned(), number) {
                Some(before) if before != number => Err("the patient stands in it twice, for two participants"),
                _ => Ok(()),
            },
            (true, false) if !is_below(file) => {
                Err("file is not a path below the folder: no leading /, no . or .., folders parted by one /")
            }
            (true, false) => match self.files.insert(file.to_owned(), (number, date)) {
                Some(before) if before != (number, date) => Err("the file stands in it twice"),
                _ => Ok(()),
            },
            _ => Err("either patient or file must be given, and not both"),
        }
    }

    /// The files that it names, by their paths below the folder, in order.
    pub fn files(&self) -> Vec<&str> {
        let mut files: Vec<&str> = self.files.keys().map(String::as_str).collect();
        files.sort_unstable();
        files
    }

    /// What the table says of a file, by its path below the folder.
    pub fn file(&self, relative: &str) -> Option<(ParticipantNumber, Option<Date>)> {
        self.files.get(relative).copied()
    }
}

/// Whether a path can be that of a file in the folder, as it is told: any other would silently name nothing.
fn is_below(file: &str) -> bool {
    file.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

impl Columns {
    fn of(heading: &csv::StringRecord) -> Result<Columns, TableError> {
        const NAMES: [&str; 4] = ["patient", "file", "participant", "date"];
        let wrong = |why: &str| TableError::Heading(why.to_owned());
        let cells: Vec<&str> = heading.iter().map(|cell| cell.trim_start_matches('\u{feff}')).collect();
        if let [only] = cells[..]
            && let Some(parted) = [(';', "semicolons"), ('\t', "tabs")].iter().find(|(part, _)| only.contains(*part))
        {
            return Err(TableError::Heading(format!("its columns are parted by {}: part them by commas", parted.1)));
        }
        if let Some(place) = cells.iter().position(|cell| !NAMES.contains(cell)) {
            let column = shown(cells[place]).unwrap_or_else(|| format!("column {}", place + 1));
            return Err(TableError::Heading(format!("{column} is none of them")));
        }
        if let Some(name) = NAMES.iter().find(|name| cells.iter().filter(|cell| cell == name).count() > 1) {
            return Err(TableError::Heading(format!("{name} stands in it twice")));
        }
        let at = |name: &str| cells.iter().position(|cell| *cell == name);
        let participant = at("participant").ok_or_else(|| wrong("participant is missing"))?;
        let columns = Columns { patient: at("patient"), file: at("file"), participant, date: at("date") };
        if columns.patient.is_none() && columns.file.is_none() {
            return Err(wrong("patient and file are missing"));
        }
        Ok(columns)
    }
}

/// A column's name as it may be repeated: a table without a heading begins with somebody's ids.
fn shown(cell: &str) -> Option<String> {
    const LONGEST: usize = 24;
    let is_name = cell.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b' '));
    (is_name && (1..=LONGEST).contains(&cell.len())).then(|| format!("{cell:?}"))
}

/// Why no participant was found.
#[derive(Debug)]
pub enum Unfound {
    /// The file is to be set aside or refused.
    Refusal(Refusal),
    /// Nothing further can be asked.
    Stop(Failure),
}

/// Whose a number is.
#[derive(Debug, Clone)]
pub struct Person {
    /// Their number.
    pub number: ParticipantNumber,
    /// Numbers of duplicate enrolments that became its aliases, as far as something was granted under them: nothing was
    /// written under any other.
    pub former: Vec<ParticipantNumber>,
}

/// Who is who.
pub struct Participants {
    table: Table,
    resolved: Cache<String, Option<ParticipantNumber>>,
    persons: Cache<ParticipantNumber, Person>,
}

impl fmt::Debug for Participants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(f)
    }
}

impl Participants {
    /// By a table (which may be empty) and by links.
    pub fn new(table: Table) -> Participants {
        Participants { table, resolved: Cache::new(RESOLVED_MAX), persons: Cache::new(PERSONS_MAX) }
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The participant of these ids, which all name one patient, and of the file by its path if the
    /// table names it.
    ///
    /// # Errors
    /// [`Unfound`].
    pub async fn find(
        &self,
        acting: &ActingClient,
        ids: &[PatientId],
        relative: Option<&str>,
    ) -> Result<ParticipantNumber, Unfound> {
        let mut found: Vec<ParticipantNumber> =
            ids.iter().filter_map(|id| self.table.patients.get(&id.text)).copied().collect();
        found.extend(relative.and_then(|relative| self.table.file(relative)).map(|(number, _)| number));
        for id in ids.iter().filter(|id| id.local && id.text.len() <= limit::OUTSIDE_ID_BYTES_MAX) {
            found.extend(self.linked(acting, &id.text).await.map_err(Unfound::Stop)?);
        }
        match &found[..] {
            [] => Err(Unfound::Refusal(Refusal::refused(reason::PARTICIPANT_UNKNOWN))),
            [first, rest @ ..] if rest.iter().all(|other| other == first) => Ok(*first),
            [first, rest @ ..] => {
                // One of them may have become an alias of another.
                let whose = self.person(acting, first).await.map_err(Unfound::Stop)?.number;
                for other in rest {
                    if self.person(acting, other).await.map_err(Unfound::Stop)?.number != whose {
                        return Err(Unfound::Refusal(Refusal::set_aside(reason::PARTICIPANTS_DIFFER)));
                    }
                }
                Ok(whose)
            }
        }
    }

    /// Whose a number is, as far as the actor may know: to others it stands for itself.
    ///
    /// # Errors
    /// Nothing further can be asked.
    pub async fn person(&self, acting: &ActingClient, number: &ParticipantNumber) -> Result<Person, Failure> {
        if let Some(known) = self.persons.get(number) {
            return Ok(known);
        }
        let person = match acting.consents(number).await {
            Ok(consents) => {
                let stays = consents.alias_of.unwrap_or(*number);
                let mut former: Vec<_> = consents.grants.iter().filter_map(|grant| grant.under).collect();
                former.extend((stays != *number).then_some(*number));
                former.sort();
                former.dedup();
                Person { number: stays, former }
            }
            Err(ListError::Denied(_) | ListError::NotFound(_)) => Person { number: *number, former: Vec::new() },
            Err(error) => return Err(error.into()),
        };
        self.persons.insert(*number, person.clone());
        Ok(person)
    }

    async fn linked(&self, acting: &ActingClient, local_id: &str) -> Result<Option<ParticipantNumber>, Failure> {
        if let Some(known) = self.resolved.get(local_id) {
            return Ok(known);
        }
        let number = match acting.resolve(local_id).await {
            Ok(number) => Some(number),
            Err(ListError::NotFound(_) | ListError::Invalid(_)) => None,
            Err(error) => {
                // Nobody's ids can be looked up, then.
                return Err(error.into());
            }
        };
        self.resolved.insert(local_id.to_owned(), number);
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "4300000000000001";
    const B: &str = "4300000000000002";

    fn read(text: &str) -> Result<Table, String> {
        Table::read(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_table_names_patients_and_files() {
        let text =
            format!("\u{feff}file,participant,patient,date\n,{A},\"00,1\",\nx/y.pdf,{B},,2024-02-29\n, {A} , 7 ,\n");
        let table = read(&text).unwrap();
        assert_eq!(table.patients["00,1"].reveal(), A);
        assert_eq!(table.patients["7"].reveal(), A);
        let (number, date) = table.file("x/y.pdf").unwrap();
        assert_eq!((number.reveal(), date.unwrap().to_string().as_str()), (B, "2024-02-29"));
        assert!(table.file("x").is_none());
        assert!(!format!("{table:?}").contains("4300"));
        assert!(read("patient,participant\n").unwrap().patients.is_empty());
    }

    #[test]
    fn a_wrong_row_is_named_and_not_repeated() {
        let heading = "patient,file,participant,date\n";
        for (text, says) in [
            (String::new(), "heading"),
            ("patient\n7".into(), "participant is missing"),
            ("participant\n".into(), "patient and file are missing"),
            (format!("patient,participant,name\n7,{A},Secret"), "\"name\" is none of them"),
            (format!("00-1,{A}\n"), "column 1 is none of them"),
            (format!("patient;participant\n7;{A}"), "parted by semicolons: part them by commas"),
            (format!("patient\tparticipant\n7\t{A}"), "parted by tabs"),
            (format!("patient,patient,participant\n7,7,{A}"), "patient stands in it twice"),
            (format!("{heading}secret,,123,"), "row 2"),
            (format!("{heading}1,,{A},\nsecret,f,{A},"), "row 3"),
            (format!("{heading},,{A},"), "either patient or file"),
            (format!("{heading}secret,,{A},2024-02-29"), "a date goes with a file"),
            (format!("{heading},secret,{A},2023-02-29"), "not YYYY-MM-DD"),
            (format!("{heading}secret,,{A},\nsecret,,{B},"), "two participants"),
            (format!("{heading},secret,{A},\n,secret,{B},"), "twice"),
            (format!("{heading}secret,,{A}"), "row 2"),
            (format!("{heading},a/b.pdf,{A},\n,/secret/x.pdf,{A},"), "row 3 of the table of participants: file is not"),
            (format!("{heading},../secret.pdf,{A},"), "not a path below"),
            (format!("{heading},a/../secret.pdf,{A},"), "not a path below"),
            (format!("{heading},./secret.pdf,{A},"), "not a path below"),
            (format!("{heading},a//secret.pdf,{A},"), "not a path below"),
            (format!("{heading},secret/,{A},"), "not a path below"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(says), "{text:?}: {error}");
            assert!(!error.contains("ecret") && !error.contains("4300"), "{error}");
        }
        assert!(read(&format!("{heading}7,,{A},\n7,,{A},")).is_ok(), "said twice is still said");
        // "患者" in Shift_JIS, in a row and in the heading.
        for (table, row) in
            [(&b"patient,participant\n\x8a\xb3\x8e\xd2,1\n"[..], 2), (&b"\x8a\xb3\x8e\xd2,participant\n"[..], 1)]
        {
            let error = Table::read(table).unwrap_err();
            assert!(matches!(error, TableError::Encoding { row: found } if found == row), "{error}");
            assert!(error.to_string().contains("save the table as UTF-8"), "{error}");
        }
    }
}
