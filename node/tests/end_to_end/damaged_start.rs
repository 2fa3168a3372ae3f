//! A member whose databases cannot be opened says which, and that it has to be replaced.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::recovery::copy;
use super::world::{KURA, cluster, folder};

/// Does something to the files of a folder whose names begin so.
fn each(folder: &Path, prefix: &str, act: impl Fn(PathBuf)) {
    let named = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(prefix);
    let found: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(named).collect();
    assert!(!found.is_empty(), "{prefix} in {}", folder.display());
    found.into_iter().for_each(act);
}

/// The tables of a database.
fn tables(folder: &Path) -> BTreeSet<OsString> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().ends_with(".sst")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_file_of_its_databases_is_lost_a_member_is_to_be_replaced() {
    let folder = folder();
    let mut cluster = cluster(folder.path(), 1, 0).await;
    cluster.stop().await.unwrap();
    let data = cluster.layout().node_data("voter-1");
    let whole = folder.path().join("whole");
    copy(&data, &whole);
    let current = fs::read_to_string(data.join("state/CURRENT")).unwrap();
    let state = format!("state/{}", current.trim());
    let cases = [
        ("state", "CURRENT"),
        (&state[..], "CURRENT"),
        (&state[..], "MANIFEST"),
        ("log/db", "CURRENT"),
        ("log/db", "MANIFEST"),
    ];
    for (place, file) in cases {
        for lost in [true, false] {
            fs::remove_dir_all(&data).unwrap();
            copy(&whole, &data);
            each(&data.join(place), file, |path| match lost {
                true => fs::remove_file(path).unwrap(),
                false => fs::write(path, "damaged").unwrap(),
            });
            let before = tables(&data.join(&state));
            assert!(!before.is_empty());
            let config = cluster.layout().node_config("voter-1");
            // Again: the first try must not leave what the second takes for a database.
            for _ in 0..2 {
                let mut command = Command::new("timeout");
                let ended = command.args(["20", KURA, "serve", "--config"]).arg(&config).output().unwrap();
                let words = String::from_utf8_lossy(&ended.stderr);
                let what = format!("{place}/{file}, lost: {lost}: {words}");
                assert!(ended.status.code() == Some(7) && words.contains("kura member replace"), "{what}");
                assert_eq!(tables(&data.join(&state)), before, "{what}");
            }
        }
    }
}
