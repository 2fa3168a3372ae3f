//! The front page of the client crate, step by step as it stands there, against a real cluster.

use std::fs;
use std::process::{Command, Stdio};

use kura_client::registry::{Application, Facility, User};
use kura_client::{FacilityKind, ParticipantNumber, Profession};
use kura_node::dev::{ClientFile, Cluster};

use super::memory::Made;
use super::world::{cluster, confirm, folder};

mod page {
    include!("../../../client/src/front_page.rs");

    pub async fn run() {
        front_page().await.unwrap();
    }
}

/// Set in the process that runs the page: its file names are relative, so that it needs a directory of its own.
const RUNS_THE_PAGE: &str = "KURA_RUNS_THE_FRONT_PAGE";
const NAME: &str = "front_page::the_front_page_runs_from_top_to_bottom";

/// Registers the facilities, the users and the application that the page speaks of.
async fn register(cluster: &Cluster) {
    let registry = cluster.client(ClientFile::Registrar1).await.unwrap().registry();
    for facility in ["F0012", "F0300"] {
        let facility = Facility::new(facility, "name", FacilityKind::Hospital);
        registry.add_facility(&facility).await.unwrap().done().unwrap();
    }
    for (user, profession) in [("u-0192", Profession::Clerk), ("u-0007", Profession::Physician)] {
        registry.add_user(&User::new("F0012", user, "name", profession)).await.unwrap().done().unwrap();
    }
    let mut application = Application::new("application", ["F0012", "F0300"]);
    application.participants = true;
    confirm(cluster, registry.add_application(&application).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_front_page_runs_from_top_to_bottom() {
    if std::env::var_os(RUNS_THE_PAGE).is_some() {
        return page::run().await;
    }
    let nodes = folder();
    let cluster = cluster(nodes.path(), 1, 0).await;
    register(&cluster).await;
    let config = cluster.layout().client(ClientFile::Application);
    let here = config.parent().unwrap();
    fs::copy(&config, here.join("client.toml")).unwrap();
    let study = Made::text(7, 2 << 20).gather().await;
    fs::write(here.join("study.dcm"), &study).unwrap();

    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", NAME, "--nocapture"]).env(RUNS_THE_PAGE, "yes").current_dir(here).stdin(Stdio::null());
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(said.contains("1 passed"), "{said}");

    assert!(said.lines().any(|line| line.trim() == "2026-04-01"), "the list has the record: {said}");
    for entry in ["F0012 enrol ", "F0012 link ", "F0012 grant evidence", "F0012 put grant", "F0012 get own-record"] {
        assert!(said.lines().any(|line| line.starts_with(entry)), "{entry}: {said}");
    }
    assert_eq!(fs::read(here.join("beginning.dcm")).unwrap(), study[..1 << 20]);
    let receipt: kura_client::Receipt = fs::read_to_string(here.join("receipt.txt")).unwrap().parse().unwrap();
    let number: ParticipantNumber = "0043001234567890".parse().unwrap();
    let application = cluster.client(ClientFile::Application).await.unwrap();
    let person = super::world::person_through(&application, number);
    let consents = person.consents().await.unwrap();
    let open: Vec<_> = consents.grants.iter().filter(|grant| grant.revoked_ms.is_none()).collect();
    assert!(matches!(open[..], [grant] if grant.facility == "F0012"), "F0300 was revoked: {open:?}");
    let whole = person.get(receipt.record()).await.unwrap().bytes().await.unwrap();
    assert!(whole == study, "all of it is there");
}
