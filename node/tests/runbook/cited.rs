//! What the documents cite is there: tests, headings, files, decisions.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The project's files with one of these endings; what is built or hidden is passed over.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true if !name.starts_with('.') && name != "target" => folders.push(path),
                false if endings.iter().any(|ending| name.ends_with(ending)) => found.push(path),
                _ => {}
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// Path and text of every page.
fn pages() -> Vec<(PathBuf, String)> {
    files(&[".md"]).into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The anchor that a heading has where pages are shown.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c)).collect::<String>();
    kept.trim().replace(' ', "-")
}

/// Whether it is part of a name.
fn is_inner(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn every_name_of_a_test_in_a_page_is_in_the_sources() {
    let sources: Vec<String> = files(&[".rs", ".proto"]).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let words: HashSet<&str> = sources.iter().flat_map(|text| text.split(|c| !is_inner(c))).collect();
    for (path, text) in pages() {
        // Between backquotes; a name of three underlines and more is a test's, or a metric's. In capitals it is the system's.
        for name in text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)) {
            if name.chars().all(|c| is_inner(c) && !c.is_uppercase()) && name.matches('_').count() >= 3 {
                assert!(words.contains(name), "{}: no source has {name}", path.display());
            }
        }
    }
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    for (path, text) in pages() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.contains(' ') {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.with_file_name("").join(file) };
            assert!(target.exists(), "{}: {link} is not there", path.display());
            if !heading.is_empty() && (file.is_empty() || file.ends_with(".md")) {
                let there = fs::read_to_string(&target).unwrap();
                let mut headings = there.lines().filter(|line| line.starts_with('#'));
                let found = headings.any(|line| anchor(line.trim_start_matches('#')) == heading);
                assert!(found, "{}: no heading is {link}", path.display());
            }
        }
    }
}

#[test]
fn every_decision_has_its_own_number_and_is_in_the_index() {
    let mut numbers = HashSet::new();
    let mut pages = pages();
    pages.retain(|(path, _)| path.parent().is_some_and(|folder| folder.ends_with("decisions")));
    let (index, decisions): (Vec<_>, Vec<_>) = pages.into_iter().partition(|(path, _)| path.ends_with("README.md"));
    assert!(!decisions.is_empty());
    for (path, text) in decisions {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let number = name[..4].to_owned();
        assert!(text.starts_with(&format!("# {number}: ")), "{name} begins with its number");
        assert!(index[0].1.contains(&format!("| [{number}]({name}) |")), "{name} is in the index");
        assert!(numbers.insert(number), "{name}: another one has this number");
    }
}
