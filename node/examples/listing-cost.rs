//! What listing costs over a participant with many records:
//! `cargo build --release && cargo run --release -p kura-node --example listing-cost [RECORDS]`.
//!
//! A cluster of three voters and a backup on this machine; one participant with RECORDS (10,000) small records,
//! one with 100. Each page is a decision and a journal entry of its own, through the client crate.

use std::future::IntoFuture;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use kura_client::{ActingClient, Class, Consent, Date, List, NewRecord, ParticipantNumber};
use kura_node::dev::{Cluster, Options};

#[path = "shared/doctor.rs"]
mod doctor;

const RECORDS: u64 = 10_000;
const FEW: u64 = 100;
const AT_ONCE: usize = 64;
/// One record in so many is of another class.
const RARE_EVERY: u64 = 500;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let records = std::env::args().nth(1).map_or(Ok(RECORDS), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let executable = std::env::current_exe()?.with_file_name("../kura").canonicalize()?;
    let options = Options { executable, voters: 3, backups: 1, ..Options::new(folder.path())? };
    let cluster = Cluster::start(options, &|words| eprintln!("{words}")).await?;
    let doctor = doctor::doctor(&cluster).await?;

    let (many, few) = ("4300000000000001".parse()?, "4300000000000002".parse()?);
    for (number, count) in [(many, records), (few, FEW)] {
        let began = Instant::now();
        fill(&doctor, &number, count).await?;
        eprintln!("{count} records written in {:.1} s", began.elapsed().as_secs_f64());
    }
    println!("| listing | found | pages | median page | longest page | whole |\n|---|---|---|---|---|---|");
    let since = Date::from_days(Date::today().days() - 3);
    let listings: [(String, usize, u32, &dyn Fn() -> List); 7] = [
        (format!("{records} records, pages of 1,000"), usize::MAX, 1_000, &|| doctor.list(&many)),
        (format!("{records} records, pages of 200"), usize::MAX, 200, &|| doctor.list(&many)),
        (format!("{records} records, pages of 20: the first 10"), 200, 20, &|| doctor.list(&many)),
        (format!("one class, 1 of {RARE_EVERY}"), usize::MAX, 1_000, &|| doctor.list(&many).class(Class::Allergy)),
        ("the last 4 days".to_owned(), usize::MAX, 1_000, &|| doctor.list(&many).since(since)),
        ("another facility".to_owned(), usize::MAX, 1_000, &|| doctor.list(&many).author_facility("F9")),
        (format!("{FEW} records, beside {records} of another"), usize::MAX, 1_000, &|| doctor.list(&few)),
    ];
    for (what, most, page, list) in listings {
        // Twice; the second run counts, as rows are then in memory as they are on a node that is in use.
        measure(list().page(page), most, page).await?;
        let (found, mut pages, whole) = measure(list().page(page), most, page).await?;
        pages.sort();
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let (median, longest) = (pages[pages.len() / 2], pages[pages.len() - 1]);
        println!("| {what} | {found} | {} | {} | {} | {} |", pages.len(), ms(median), ms(longest), ms(whole));
    }
    Ok(())
}

/// How many came, how long each page took, and all of them.
async fn measure(list: List, most: usize, page: u32) -> Result<(usize, Vec<Duration>, Duration), Failure> {
    let (mut stream, began) = (list.stream(), Instant::now());
    let (mut found, mut pages) = (0, Vec::new());
    while found < most {
        let asked = Instant::now();
        let Some(summary) = stream.next().await else {
            if pages.is_empty() {
                pages.push(asked.elapsed());
            }
            break;
        };
        summary?;
        // A page is asked for when its first record is.
        if found % page as usize == 0 {
            pages.push(asked.elapsed());
        }
        found += 1;
    }
    Ok((found, pages, began.elapsed()))
}

/// Enrols a participant and writes their records, spread over classes and days.
async fn fill(doctor: &ActingClient, number: &ParticipantNumber, count: u64) -> Result<(), Failure> {
    doctor.enrol(number, Consent::signed_on("2020-01-01".parse()?).evidence("paper")).await?;
    doctor.grant(number, "F1").evidence("paper").await?;
    let today = Date::today().days();
    let put = |nth: u64| {
        let class = if nth.is_multiple_of(RARE_EVERY) { Class::Allergy } else { Class::CareRecord };
        let day = Date::from_days(today - i32::try_from(nth % 1_000).unwrap_or(0));
        let record = NewRecord::new(class, "text/plain", day);
        doctor.put(number, record).bytes(format!("note {nth}: no fever, eats well")).into_future()
    };
    stream::iter((0..count).map(put)).buffer_unordered(AT_ONCE).try_for_each(async |_| Ok(())).await?;
    Ok(())
}
