//! Trees as they lie in hospitals, and as they should not.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::super::report::{Outcome, reason};
use super::name::Flag;
use super::tree::{Entry, files, patients};

/// A message about a patient in ISO-2022-JP.
fn message(patient: &str) -> Vec<u8> {
    let text = format!(
        "MSH|^~\\&|HIS|S|G|R|20240301120000||RDE^O11^RDE_O11|1|P|2.5||||||~ISO IR87||ISO 2022-1994\r\
         PID|0001||{patient}^^^^PI||\x1b$B45<T\x1b(B^\x1b$BB@O:\x1b(B^^^^^L^I\r"
    );
    text.into_bytes()
}

fn put(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A file that is in no chain, and why.
type Other = (String, Outcome, String);

/// What lies where: chains by their files, and the other files with their reasons.
fn seen(root: &Path) -> (Vec<Vec<String>>, Vec<Other>) {
    let (mut chains, mut others) = (Vec::new(), Vec::new());
    patients(root, |found| {
        let lines = match found {
            Ok(patient) => {
                let (found, lines) = files(&patient);
                chains.extend(found.into_values().map(|chain| chain.into_iter().map(|e| e.relative).collect()));
                lines
            }
            Err(lines) => lines,
        };
        others.extend(lines.into_iter().map(|l| (l.file, l.outcome, l.reason.unwrap_or_default())));
        true
    });
    others.sort_by(|one, other| one.0.cmp(&other.0));
    (chains, others)
}

#[test]
fn versions_are_one_chain_in_the_order_of_their_moments() {
    let folder = tempfile::tempdir().unwrap();
    let place = "000/123/0001234/20240229/OMP-01";
    let file = |order: &str, moment: &str, department: &str, flag: char| {
        format!("{place}/0001234_20240229_OMP-01_{order}_{moment}_{department}_{flag}")
    };
    let chain = [
        file("1", "20240301000000000", "01", '2'),
        file("1", "20240302000000000", "01", '2'),
        file("1", "20240302000000001", "01", '1'),
        file("1", "20240302000000001", "01", '0'),
    ];
    for path in chain.iter().rev() {
        put(folder.path(), path, &message("0001234"));
    }
    let (other_order, other_department) =
        (file("2", "20240301000000000", "01", '1'), file("1", "20240301000000000", "02", '1'));
    put(folder.path(), &other_order, &message("0001234"));
    put(folder.path(), &other_department, &message("0001234"));
    let (chains, others) = seen(folder.path());
    assert_eq!(chains, [chain.to_vec(), vec![other_department], vec![other_order]]);
    assert_eq!(others, []);
    assert_eq!(super::count(folder.path()), 6);
}

#[test]
fn what_does_not_lie_as_the_guideline_says_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let sound = "000/123/0001234/-/ADT-00/0001234_-_ADT-00_999_20240301000000000_-_1";
    put(root, sound, &message("0001234"));
    let place = "000/123/0001234/20240229/OMP-01";
    let skipped = ["LICENSE", "000/index.db", "000/123/x", "000/123/0001234/x", "000/123/0001234/20240229/x"];
    for path in skipped {
        put(root, path, b"x");
    }
    put(root, "000/124/0001234/20240229/OMP-01/x", b"x");
    put(root, "000/123/0001234/20240230/OMP-01/x", b"x");
    put(root, &format!("{place}/deeper/x"), b"x");
    std::os::unix::fs::symlink(root, root.join(place).join("round")).unwrap();
    let misplaced = [
        ("0001235_20240229_OMP-01_1_20240301000000000_01_1", reason::PATH_DIFFERS),
        ("0001234_20240228_OMP-01_1_20240301000000000_01_1", reason::PATH_DIFFERS),
        ("0001234_20240229_OMP-02_1_20240301000000000_01_1", reason::PATH_DIFFERS),
        ("0001234_20240229_OMP-01_1_20240301000000000_01_7", reason::NAME_MALFORMED),
        ("notes.txt", reason::NAME_MALFORMED),
    ];
    for (name, _) in misplaced {
        put(root, &format!("{place}/{name}"), b"x");
    }
    let (chains, others) = seen(root);
    assert_eq!(chains, [[sound]]);
    let mut expected: Vec<Other> =
        skipped.iter().map(|path| ((*path).to_owned(), Outcome::Skipped, reason::OUTSIDE_LAYOUT.to_owned())).collect();
    for path in ["000/124/0001234", "000/123/0001234/20240230", &format!("{place}/deeper")] {
        expected.push((path.to_owned(), Outcome::Skipped, reason::OUTSIDE_LAYOUT.to_owned()));
    }
    expected.push((format!("{place}/round"), Outcome::Skipped, reason::NOT_A_FILE.to_owned()));
    for (name, reason) in misplaced {
        expected.push((format!("{place}/{name}"), Outcome::SetAside, reason.to_owned()));
    }
    expected.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(others, expected);
}

#[tokio::test]
async fn a_mixed_up_message_is_set_aside_and_the_others_of_its_chain_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let place = "000/123/0001234/20240229/OMP-01/0001234_20240229_OMP-01_1_2024030";
    for (moment, whose) in [("1", "0001234"), ("2", "0001235"), ("3", "0001234")] {
        put(folder.path(), &format!("{place}{moment}000000000_01_1"), &message(whose));
    }
    let mut chains = Vec::new();
    patients(folder.path(), |found| {
        chains.extend(files(&found.unwrap()).0.into_values());
        true
    });
    let (sound, others) = super::chain::sound(chains.remove(0), "0001234").await;
    let moments: Vec<&str> = sound.iter().map(|entry| &entry.moment[..8]).collect();
    assert_eq!(moments, ["20240301", "20240303"]);
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].0.reason.as_deref(), Some(reason::PATIENT_DIFFERS));
    assert!(sound.iter().all(|entry: &Entry| entry.flag == Flag::Live));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever lies there, every file comes out once.
    #[test]
    fn no_tree_panics_or_loses_a_file(paths in proptest::collection::hash_set("[01]{1,2}(/[01-]{1,3}){0,6}(/0_-_A_1_20240301000000000_1_[0123])?", 0..12)) {
        let folder = tempfile::tempdir().unwrap();
        let mut put = 0;
        for path in paths {
            let path = folder.path().join(path);
            if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.exists() && fs::write(path, "x").is_ok() {
                put += 1;
            }
        }
        let (chains, others) = seen(folder.path());
        let in_chains: usize = chains.iter().map(Vec::len).sum();
        let below = |folder_of: &str| -> usize { count_files(&folder.path().join(folder_of)) };
        let told: usize = others.iter().map(|(path, ..)| below(path)).sum();
        prop_assert_eq!(in_chains + told, put);
    }
}

fn count_files(path: &Path) -> usize {
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| count_files(&entry.path())).sum(),
        Err(_) => 1,
    }
}
