//! `kura setting …`: the network's settings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kura_client::{Class, Profession};

use super::acting::ClientOption;
use super::exit::Failure;
use super::files;
use super::output::{Output, readable, table};
use super::receipt;
use super::registry::Because;

/// `kura setting …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// All settings, and which profession sees what (registrars, auditors).
    Show(ClientOption),
    /// Change settings. What becomes wider in any respect is proposed to a second registrar.
    Set(SetArguments),
}

/// Options of `kura setting set`.
#[derive(Debug, Args)]
pub struct SetArguments {
    /// Settings: times in milliseconds, true or false, counts.
    #[arg(value_name = "NAME=VALUE", value_parser = assignment, required_unless_present = "professions")]
    settings: Vec<(String, String)>,
    /// A TOML file with a line for each profession to be changed: `nurse = ["allergy", "image"]`.
    #[arg(long, value_name = "FILE")]
    professions: Option<PathBuf>,
    #[command(flatten)]
    because: Because,
}

fn assignment(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Runs it.
pub async fn run(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Show(client) => {
            let settings = client.connect().await?.registry().settings().await?;
            if output.json {
                return output.line(&settings);
            }
            let mut rows = table(&["setting", "value"]);
            for (name, value) in settings.fields() {
                let value = readable(&name, &value);
                rows.add_row([name, value]);
            }
            output.table(rows)
        }
        Command::Set(SetArguments { settings, professions, because }) => {
            let mut names = BTreeSet::new();
            if let Some((twice, _)) = settings.iter().find(|(name, _)| !names.insert(name)) {
                return Err(Failure::usage(format!("{twice} is given twice")).next("give each setting once"));
            }
            let professions = professions.as_deref().map(read).transpose()?.unwrap_or_default();
            let registry = because.registry().await?;
            let before = registry.settings().await?;
            let mut after = before.clone();
            for (name, value) in &settings {
                after.set(name, value)?;
            }
            after.professions.extend(professions);
            if before == after {
                return receipt::print_unchanged(output);
            }
            receipt::print_registered(&registry.change_settings(&before, &after).await?, output)
        }
    }
}

/// Which profession sees what, from a file.
fn read(path: &Path) -> Result<BTreeMap<Profession, Vec<Class>>, Failure> {
    let wrong = |error: String| {
        Failure::usage(format!("--professions: {}: {error}", path.display()))
            .next("a line for each profession that is to change, such as: nurse = [\"allergy\", \"image\"]")
    };
    let bytes = files::read("--professions", path)?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is no text in UTF-8".into()))?;
    let table: BTreeMap<String, Vec<Class>> = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let parsed = table.into_iter().map(|(word, classes)| Ok((word.parse()?, classes)));
    parsed.collect::<Result<_, kura_client::UnknownWord>>().map_err(|error| wrong(error.to_string()))
}
