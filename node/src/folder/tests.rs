use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::samples::{Generator, Kind};

fn by_name(folder: &mut Folder) -> BTreeMap<String, Found> {
    folder.map(|found| (found.relative.clone(), found)).collect()
}

#[test]
fn generated_samples_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let mut generator = Generator::new(31);
    let mut samples = BTreeMap::new();
    for (index, kind) in Kind::ALL.into_iter().cycle().take(Kind::ALL.len() * 4).enumerate() {
        let sample = generator.sample_of(kind);
        let name = format!("{}/{index}", index % 3);
        fs::create_dir_all(folder.path().join(&name).parent().unwrap()).unwrap();
        fs::write(folder.path().join(&name), &sample.bytes).unwrap();
        samples.insert(name, sample);
    }
    let mut walk = Folder::open(folder.path()).unwrap();
    let found = by_name(&mut walk);
    assert_eq!(found.len(), samples.len());
    for (name, sample) in &samples {
        let seen = &found[name];
        assert_eq!(fs::read(&seen.path).unwrap(), sample.bytes);
        assert_eq!(seen.length, sample.bytes.len() as u64);
        let what = &seen.what;
        assert_eq!(what.media_type, sample.media_type, "{:?}", sample.kind);
        // Plain text tells neither its class nor its day.
        if sample.kind == Kind::CareNote {
            assert_eq!((what.class_word, what.day, what.form), ("document", None, Form::Other));
        } else {
            assert_eq!(
                (what.class_word, what.day),
                (sample.class_word, Some(sample.clinical_day)),
                "{:?}",
                sample.kind
            );
            assert_eq!(what.patients.count(), 1, "{:?}: {what:?}", sample.kind);
            assert_ne!(what.form, Form::Other, "{:?}", sample.kind);
        }
    }
    let report = walk.report();
    assert_eq!(report.files, samples.len() as u64);
    assert_eq!(report.bytes, samples.values().map(|sample| sample.bytes.len() as u64).sum::<u64>());
    assert_eq!((report.folders, report.problems, report.empty_files, report.days_unknown), (4, 0, 0, 4));
    assert_eq!(report.classes.values().sum::<u64>(), report.files);
    assert_eq!(report.media_types.values().sum::<u64>(), report.files);
}

#[test]
fn nothing_is_skipped_silently() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir_all(path.join("a/b")).unwrap();
    fs::write(path.join("README.md"), "# Records").unwrap();
    fs::write(path.join("a/LICENSE"), "Some licence").unwrap();
    fs::write(path.join("a/.hidden"), "x").unwrap();
    fs::write(path.join("a/b/empty"), "").unwrap();
    fs::write(path.join("a/b/two"), "\0\x01").unwrap();
    std::os::unix::fs::symlink(path, path.join("a/circle")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path.join("a/socket")).unwrap();

    let mut walk = Folder::open(path).unwrap();
    let found = by_name(&mut walk);
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, ["README.md", "a/.hidden", "a/LICENSE", "a/b/empty", "a/b/two"]);
    assert!(found.values().all(|file| file.what.class_word == "document"));
    let report = walk.report();
    assert_eq!((report.files, report.folders, report.empty_files, report.problems), (5, 3, 1, 2));
    let mut problems: Vec<&str> = report.first_problems.iter().map(|problem| problem.relative.as_str()).collect();
    problems.sort_unstable();
    assert_eq!(problems, ["a/circle", "a/socket"]);
    let text = report.to_string();
    assert!(
        text.starts_with("5 files, 24 bytes, in 3 folders; 1 empty; 5 without a day of their own; 2 could"),
        "{text}"
    );
    assert!(!text.contains("LICENSE"));
}

#[test]
fn folders_too_deep_are_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let mut path = folder.path().to_owned();
    for _ in 0..DEPTH_MAX {
        path.push("d");
    }
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("below"), "x").unwrap();
    fs::write(path.parent().unwrap().join("above"), "x").unwrap();
    let mut walk = Folder::open(folder.path()).unwrap();
    assert_eq!(by_name(&mut walk).len(), 1);
    assert_eq!(walk.report().problems, 1);
    assert!(walk.report().first_problems[0].what.contains("deeper"));
}

#[test]
fn a_missing_folder_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Folder::open(folder.path().join("none")).is_err());
}
