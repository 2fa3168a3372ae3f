//! The command line of `kura`: parsing, printing, exit codes. Everything that talks to a cluster
//! goes through `kura_client`.
//!
//! Invariants
//! - Data goes to standard output, progress and logs to standard error.
//! - One module for each command; it parses, calls, prints, and decides nothing.
//! - Participant numbers are never repeated in messages, and can come from standard input (`-`).

mod act;
mod acting;
mod archive;
mod audit;
mod bench;
mod ca;
mod consent;
mod demo;
mod dev;
mod disaster;
mod drill;
mod emergency;
mod erasure;
mod exit;
mod export;
mod fencing;
pub(crate) mod files;
mod given;
mod import;
mod key;
mod member;
mod number;
mod output;
mod participant;
mod receipt;
mod record;
mod recover;
mod refusal;
mod registry;
mod request;
mod restore;
mod review;
mod serve;
mod setting;
mod setup;
mod status;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub(crate) use audit::{HEADING as ACCESS_HEADING, Told as AccessRow};
pub(crate) use consent::Told as ConsentsTold;
pub(crate) use exit::chain;
pub use exit::{Exit, Failure};
pub(crate) use member::{Candidate, add_quietly};
pub use output::{Output, Progress};
pub(crate) use output::{bytes, note, shown, table};
pub(crate) use status::unsettled;

/// The storehouse for the records of a prefecture's medical and care network.
#[derive(Debug, Parser)]
#[command(name = "kura", version, arg_required_else_help = true, after_help = Exit::HELP)]
pub struct Cli {
    /// Print JSON for programs: an object, or one object a line for lists.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole cluster on this machine until Ctrl-C.
    Dev(dev::Arguments),
    /// Show what Kura does, on a cluster of its own, and check it.
    Demo(demo::Arguments),
    /// Run one node.
    Serve(serve::Arguments),
    /// The cluster's certificate authority.
    #[command(subcommand)]
    Ca(ca::Command),
    /// Certificates of nodes, and a clock that has leapt.
    #[command(subcommand)]
    Node(request::NodeCommand),
    /// Make a new cluster of one voter: this machine's. Offline, once.
    Init(setup::InitArguments),
    /// Make this machine ready to be added to a cluster that has approved it.
    Join(setup::JoinArguments),
    /// Members of the cluster (operators; approval of voters also by a registrar).
    #[command(subcommand)]
    Member(member::Command),
    /// Custody of the root key: shares, rotation (operators, registrars, holders of shares).
    #[command(subcommand)]
    Key(key::Command),
    /// How the cluster is: members, leader, lag, replication point, digests, size, certificates.
    Status(status::Arguments),
    /// Facilities (registrars).
    #[command(subcommand)]
    Facility(registry::FacilityCommand),
    /// Users of facilities (registrars).
    #[command(subcommand)]
    User(registry::UserCommand),
    /// Applications (registrars).
    #[command(subcommand)]
    App(registry::AppCommand),
    /// Acts that take two registrars: what was proposed, and confirming it.
    #[command(subcommand)]
    Act(act::Command),
    /// The network's settings (registrars).
    #[command(subcommand)]
    Setting(setting::Command),
    /// A declared disaster: who may open emergencies beyond those who always may (registrars).
    #[command(subcommand)]
    Disaster(disaster::Command),
    /// Participants: enrolment, facilities' own ids, cards, duplicates.
    #[command(subcommand)]
    Participant(participant::Command),
    /// What participants consent to.
    #[command(subcommand)]
    Consent(consent::Command),
    /// Erasure of participants who have left (registrars; participants for themselves).
    #[command(subcommand)]
    Erasure(erasure::Command),
    /// Records.
    #[command(subcommand)]
    Record(record::Command),
    /// Emergency access (physicians).
    #[command(subcommand)]
    Emergency(emergency::Command),
    /// Who accessed what.
    #[command(subcommand)]
    Audit(audit::Command),
    /// The review queue: emergencies, and grants that a facility entered for itself (auditors).
    #[command(subcommand)]
    Review(review::Command),
    /// The archive that a backup member writes: looked at, checked, copied; offline.
    #[command(subcommand)]
    Archive(archive::Command),
    /// Rehearse a restore from the archive into a scratch directory, while the cluster runs; meant for a timer.
    Drill(drill::Arguments),
    /// Take a cluster over from what survives of it, and open it step by step; most of it offline (recovery staff).
    #[command(subcommand)]
    Recover(recover::Command),
    /// A cluster from its archive, to a moment: on the machine of its first voter, offline.
    #[command(subcommand)]
    Restore(restore::Command),
    /// Bring a facility's existing records in.
    #[command(subcommand)]
    Import(import::Command),
    /// Write a participant's own complete copy into a directory.
    Export(export::Arguments),
    /// Measure a cluster.
    Bench(bench::Arguments),
}

impl Cli {
    /// Parses the command line.
    fn read(line: &[OsString]) -> Result<Self, clap::Error> {
        Self::from_arg_matches(&with_negative_numbers(Self::command()).try_get_matches_from(line)?)
    }
}

/// Says what is wrong with a command line, as JSON if it asks for that, and answers the exit code. Help is no error.
fn not_read(error: &clap::Error, line: &[OsString]) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
    }
    let words = in_words(&error.render().to_string());
    match line.iter().take_while(|word| *word != "--").any(|word| word == "--json") {
        true => report(&usage(&words), true),
        false => {
            note(words.trim_end());
            Exit::Usage.into()
        }
    }
}

/// What the library that reads numbers says of others does not say what is wanted.
fn in_words(told: &str) -> String {
    told.replace("invalid digit found in string", "it is not a whole number")
        .replace("cannot parse integer from empty string", "it is not a whole number")
        .replace("number too large to fit in target type", "it is too large a number")
}

/// The first paragraph of the parser's words says what is wrong; what follows, how it is written.
fn usage(told: &str) -> Failure {
    let mut parts = told.trim().split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    let what = parts.next().unwrap_or_default();
    Failure::usage(what.trim_start_matches("error: ")).next(parts.collect::<Vec<_>>().join("; "))
}

/// A negative number is a value, which its option refuses by its bounds, and no unknown option.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| match arg.get_action().takes_values() {
        true => arg.allow_negative_numbers(true),
        false => arg,
    });
    command.mut_subcommands(with_negative_numbers)
}

/// How long a node's tasks may take to end once its work is done.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Parses the command line, runs it, and answers the exit code.
pub fn run() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::read(&line) {
        Ok(cli) => cli,
        Err(error) => return not_read(&error, &line),
    };
    let json = cli.json;
    // Two at least: a thread that waits for a disk must not hold up heartbeats.
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::failed(format!("cannot start: {error}")), json),
    };
    let opens_databases = matches!(
        cli.command,
        Command::Serve(_)
            | Command::Init(_)
            | Command::Join(_)
            | Command::Recover(_)
            | Command::Restore(_)
            | Command::Archive(archive::Command::Verify(_))
    );
    let ended = runtime.block_on(execute(cli));
    match opens_databases {
        // Tasks that hold a database must have dropped it before this process runs its exit handlers:
        // RocksDB's go first, and a database that is closed after them ends in an abort.
        true => runtime.shutdown_timeout(CLOSE_TIMEOUT),
        // A blocked read of standard input must not keep the process.
        false => runtime.shutdown_background(),
    }
    match ended {
        Ok(()) => Exit::Done.into(),
        Err(failure) => report(&failure, json),
    }
}

fn report(failure: &Failure, json: bool) -> ExitCode {
    // Nobody asked for more than was read.
    if failure.exit == Exit::Unread {
        return failure.exit.into();
    }
    if json {
        let words = serde_json::json!({
            "error": failure.message, "next": failure.next, "exit": failure.exit as u8,
        });
        note(&words.to_string());
    } else {
        note(&format!("kura: {failure}"));
    }
    failure.exit.into()
}

async fn execute(cli: Cli) -> Result<(), Failure> {
    let output = Output { json: cli.json };
    match cli.command {
        Command::Dev(arguments) => dev::run(arguments, output).await,
        Command::Demo(arguments) => demo::run(arguments, output).await,
        Command::Serve(arguments) => serve::run(arguments).await,
        Command::Ca(command) => ca::run(command, output),
        Command::Node(command) => request::run_node(command, output),
        Command::Init(arguments) => setup::init(arguments, output).await,
        Command::Join(arguments) => setup::join(arguments, output).await,
        Command::Member(command) => member::run(command, output).await,
        Command::Key(command) => key::run(command, output).await,
        Command::Recover(command) => recover::run(command, output).await,
        Command::Status(arguments) => status::run(arguments, output).await,
        Command::Facility(command) => registry::facility(command, output).await,
        Command::User(command) => registry::user(command, output).await,
        Command::App(command) => registry::app(command, output).await,
        Command::Act(command) => act::run(command, output).await,
        Command::Setting(command) => setting::run(command, output).await,
        Command::Disaster(command) => disaster::run(command, output).await,
        Command::Participant(command) => participant::run(command, output).await,
        Command::Consent(command) => consent::run(command, output).await,
        Command::Erasure(command) => erasure::run(command, output).await,
        Command::Record(command) => record::run(command, output).await,
        Command::Emergency(command) => emergency::run(command, output).await,
        Command::Audit(command) => audit::run(command, output).await,
        Command::Review(command) => review::run(command, output).await,
        Command::Archive(command) => archive::run(command, output).await,
        Command::Restore(command) => restore::run(command, output).await,
        Command::Import(command) => import::run(command, output).await,
        Command::Export(arguments) => export::run(arguments, output).await,
        Command::Drill(arguments) => drill::run(arguments, output).await,
        Command::Bench(arguments) => bench::run(arguments, output).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        with_negative_numbers(Cli::command()).debug_assert();
    }

    #[test]
    fn a_wrong_command_line_is_told_in_words_and_as_a_failure() {
        let told = |line: &str| {
            let line: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            usage(&in_words(&Cli::read(&line).unwrap_err().render().to_string()))
        };
        let failure = told("kura status --timeout soon");
        assert!(failure.exit == Exit::Usage && failure.message.contains("--timeout"), "{failure}");
        assert!(failure.message.ends_with("it is not a whole number") && failure.next.is_some(), "{failure}");
        let failure = told("kura member nonsense");
        assert!(failure.message.contains("nonsense") && !failure.message.contains('\n'), "{failure}");
        assert!(failure.next.unwrap().contains("--help"));
    }

    #[test]
    fn documented_lines_parse() {
        let lines = [
            "kura dev --data d --voters 3 --backups 1 --base-port 7001",
            "kura demo --data d --input f",
            "kura serve --config node.toml",
            "kura ca create --directory ca --cluster kita",
            "kura ca sign voter-1.csr --directory ca --role voter --name voter-1 --out voter-1.pem --accept-names",
            "kura ca revoke --directory ca --serial ab01 --list revoked.pem",
            "kura ca revoke --directory ca --serial ab01 --list revoked.pem --new-list",
            "kura ca revoke --directory ca --name voter-3 --role voter --list revoked.pem",
            "kura node request --role voter --name voter-1 --key node.key --request node.csr --also 10.0.0.1",
            "kura init --config node.toml --cluster kita",
            "kura join --config node.toml",
            "kura member approve node.csr --address 10.0.0.2:7001 --client operator.toml",
            "kura member list --json",
            "kura member add-voter voter-2",
            "kura member add-backup backup-1",
            "kura member approve node.csr --address 10.0.0.2:7001 --anew",
            "kura member remove voter-2",
            "kura member remove voter-2 --yes",
            "kura member replace voter-2 voter-4",
            "kura key split --config node.toml --threshold 2 --holders 3 --client operator.toml",
            "kura key split --config node.toml --threshold 2 --holders 3 --from-shares",
            "kura key confirm 0123456789 --client registrar.toml",
            "kura key verify-share",
            "kura key submit --client recovery.toml",
            "kura key rotate --epoch",
            "kura key rotate --root --without-shares",
            "kura key status",
            "kura status --wait --json",
            "kura status --fail --fail-if-lag 30s",
            "kura facility add F0012 --name Minato --kind hospital --access-line ip-vpn",
            "kura facility add F0012 --name Minato --kind hospital --emergency --reason form-7",
            "kura facility change F0012 --status suspended --institution-code 1311001232 --emergency false",
            "kura facility list",
            "kura user add F0012 u-7 --name Abe --profession physician",
            "kura user change F0012 u-7 --no-credential --lists-accesses true",
            "kura user list F0012",
            "kura app add karte --facility F0012 --facility F0300 --participants",
            "kura app change karte --add-facility F0100 --drop-facility F0300 --participants false",
            "kura app list",
            "kura act list --all",
            "kura act show 00112233445566778899aabbccddeeff",
            "kura act confirm 00112233445566778899aabbccddeeff",
            "kura act reject 00112233445566778899aabbccddeeff --reason wrong",
            "kura setting show --json",
            "kura setting set emergency_ms=1800000 participants_read=false --reason form-8",
            "kura setting set --professions professions.toml",
            "kura disaster declare flood --hours 72 --profession nurse --kind clinic --facility F0012 --caps-factor 10",
            "kura disaster show",
            "kura disaster end --reason over",
            "kura participant enrol - --signed-on 2026-04-01 --evidence 2026-113 --as F0012/u-7",
            "kura participant link 0043001234567890 00-123-45 --as F0012/u-7",
            "kura participant resolve 00-123-45 --as F0012/u-7",
            "kura participant relink - 00-123-45 --reason mistyped --as F0012/u-7",
            "kura participant ids 0043001234567890 --as F0012/u-7",
            "kura participant card - C-0001 --evidence lost --as F0012/u-7",
            "kura participant card - C-0001 --evidence lost --as-registrar ito",
            "kura participant resolve-card C-0001 --as F0012/u-7",
            "kura participant alias - - --evidence form-9 --client registrar.toml",
            "kura participant show - --as-participant",
            "kura participant granted --as F0012/u-7",
            "kura consent grant - F0300 --as-participant",
            "kura consent revoke - F0300 --as F0012/u-7 --evidence 2026-114",
            "kura consent withdraw - --as-participant",
            "kura consent show - --as-participant",
            "kura record show - 00112233445566778899aabbccddeeff --emergency 00112233445566778899aabbccddeeff --as F0012/u-7",
            "kura erasure ask - --evidence 2026-115",
            "kura erasure ask - --as-participant",
            "kura erasure approve -",
            "kura erasure stop - --reason changed-their-mind",
            "kura erasure list --state pending",
            "kura erasure show - --as-participant",
            "kura erasure certificate - --json",
            "kura record put - scan.dcm --class image --media-type application/dicom --date 2026-04-01 --as F0012/u-7",
            "kura record list - --class image --since 2026-04-01 --as F0012/u-7",
            "kura record get - 00112233445566778899aabbccddeeff --out scan.dcm --as F0012/u-7",
            "kura record get - 00112233445566778899aabbccddeeff --range 0..1048576 --as-participant",
            "kura record get - 00112233445566778899aabbccddeeff 00112233445566778899aabbccddee00 --to d --as F0012/u-7",
            "kura record get - 00112233445566778899aabbccddeeff --part letter --as F0012/u-7",
            "kura record show - 00112233445566778899aabbccddeeff --as F0012/u-7",
            "kura record put - --class image --part a=1.dcm,application/dicom --part b=2.dcm --as F0012/u-7",
            "kura record put - x --class image --version-of 00112233445566778899aabbccddeeff --date 2026-04-01 --as F/u",
            "kura record put - x --class document --replaces 00112233445566778899aabbccddeeff --as F0012/u-7 --author u-8 \
             --authored-at 2026-04-01T09:30:00+09:00 --enterer u-9 --confirmer u-1 --signature x.p7s --timestamp x.tst",
            "kura record hold - 00112233445566778899aabbccddeeff --evidence order-12 --client registrar.toml",
            "kura record release - 00112233445566778899aabbccddeeff --evidence order-13 --client registrar.toml",
            "kura record history - 00112233445566778899aabbccddeeff --as F0012/u-7",
            "kura record hide - 00112233445566778899aabbccddeeff --reason wrong --as F0012/u-7",
            "kura record unhide - 00112233445566778899aabbccddeeff --as F0012/u-7",
            "kura record narrow - 00112233445566778899aabbccddeeff --to F0300 --as F0012/u-7",
            "kura emergency open - --reason unconscious --as F0012/u-7 --method card --credential card.pem",
            "kura record list - --emergency 00112233445566778899aabbccddeeff --as F0012/u-7",
            "kura record get - 00112233445566778899aabbccddeeff --emergency 00112233445566778899aabbccddeeff --as F0012/u-7",
            "kura record history - 00112233445566778899aabbccddeeff --emergency 00112233445566778899aabbccddeeff --as F0012/u-7",
            "kura restore plan --from a --to-time 2026-04-01T09:30:00+09:00 --into d --head h",
            "kura restore apply --from a --to-index 7 --into d --config node.toml --without-head none-was-kept --not-fenced x",
            "kura restore apply --from a --config node.toml --head h --fenced gone --reason fire --open reads",
            "kura restore verify --into d --root-key root.key",
            "kura review list",
            "kura review list --closed --json",
            "kura review show 00112233445566778899aabbccddeeff",
            "kura review close 00112233445566778899aabbccddeeff --verdict unjustified --note asked",
            "kura record inbox --since 00112233445566778899aabb --as F0012/u-7",
            "kura record outcome 00112233445566778899aabbccddeeff --client app.toml",
            "kura audit list - --as-participant --since 2026-04-01",
            "kura audit list - --as-participant --until 2026-04-01 --denied --oldest-first --facility F0300 --action get",
            "kura archive status archive --fail-if-older 60",
            "kura recover plan data other archive --out plan.json --published 184467",
            "kura recover apply --plan plan.json --config node.toml --cluster-name kita --not-fenced nobody-knows --ca ca",
            "kura recover apply --plan plan.json --config node.toml --fenced gone --root-key root.key --reason fire",
            "kura recover verify --config node.toml --sample 10",
            "kura recover report --config node.toml --json",
            "kura recover open reads --client staff.toml",
            "kura recover salvage --from old --client rec.toml --apply",
            "kura archive list archive --config node.toml --json",
            "kura join --config node.toml --seed-from archive --signed-by b478cdc62fe3f448d224886bc7707a267963716be710e80e445bf6aadd46d231",
            "kura archive verify archive",
            "kura archive verify file:///archive --level replay --scratch s --head head --generation 3",
            "kura archive verify archive --level open --root-key root.key --sample 10 --signed-by b478cdc62fe3f448d224886bc7707a267963716be710e80e445bf6aadd46d231",
            "kura archive verify archive --level open --config node.toml --all",
            "kura archive verify archive --level open --shares --all --json",
            "kura archive export archive --to disk --generations 2 --keys-days 30",
            "kura archive hold archive 7 --reason court",
            "kura archive release archive 7",
            "kura import ssmix2 storage --as F0012/u-7 --participants who.csv --report report.ndjson --at-once 4",
            "kura import files folder --as F0012/u-7 --date 2026-04-01 --json",
            "kura export - --out copy --as-participant",
            "kura export - --out copy --as F0012/u-7",
            "kura audit list --all --facility F0012 --actor u-7 --denied --since 2026-04-01 --until 2026-04-30",
            "kura audit list - --all --application karte --action get --action list --limit 10 --oldest-first",
            "kura audit list --own-facility --as F0012/u-7 --actor u-8",
            "kura audit head --file head",
            "kura audit verify",
            "kura audit verify --from head --content",
            "kura audit verify --signed-by b478cdc62fe3f448d224886bc7707a267963716be710e80e445bf6aadd46d231",
            "kura audit export --since 2026-04-01 --until 2026-04-30 --out april.ndjson",
        ];
        for line in lines {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn contradictions_are_refused_and_numbers_not_repeated() {
        for line in [
            "kura record get 0043001234567890 zz --as F/u",
            "kura record list 0043001234567890 --as F/u --as-participant",
            "kura record list 0043001234567890 --class nothing --as F/u",
            "kura export 0043001234567890",
            "kura record put 0043001234567890 --class image --as F/u",
            "kura record put 0043001234567890 f --part a=b --class image --as F/u",
            // Today is seldom the day of what it amends.
            "kura record put - f --class image --version-of 00112233445566778899aabbccddeeff --as F/u",
            "kura record get 0043001234567890 00112233445566778899aabbccddeeff --to d --out f --as F/u",
            "kura audit list 0043001234567890 --all --own-facility --as F/u",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), Exit::Usage as i32, "{line}");
            assert!(!error.to_string().contains("0043001234567890"), "{error}");
        }
    }
}
