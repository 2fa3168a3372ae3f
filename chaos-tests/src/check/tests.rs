//! Histories written by hand: one that is good, and for each rule those that break it.
//!
//! The good history is a text in the format of [`crate::history`], so that it also freezes it. A bad one
//! is the good one with lines changed, taken out or put in; each must be found by its rule, and by no
//! other than those named.

mod apart;

use std::collections::BTreeSet;

use super::check;
use crate::history::Line;

/// Header, a put with a document id, one without, an unknown one that was committed and one that was
/// not, a read, a revocation, a refusal, a grant, a read, a kill; the final scan; the digests; the end.
const GOOD: &str = r#"
{"line":"header","format":1,"run":"crash","seed":1,"rounds":1,"version":"kura 0","began_ms":0,"voters":["v1","v2"],"backups":["b1"],"floors":{"writes":2,"reads":2,"revocations":1,"kills":1,"leader_kills":1,"kills_under_writing":1}}
{"line":"operation","id":1,"client":"c0","participant":"p0","facility":"home","call_us":10,"return_us":20,"action":"put","request":"q1","document":"d1","body_sha256":"s1","body_bytes":1,"outcome":"committed","record":"r1","version":1,"at":{"timeline":0,"index":11},"term":1,"journal":101,"reach":"not-awaited","repeated":false}
{"line":"operation","id":2,"client":"c1","participant":"p0","facility":"home","call_us":30,"return_us":40,"action":"put","request":"q2","body_sha256":"s2","body_bytes":2,"outcome":"committed","record":"r2","version":1,"at":{"timeline":0,"index":12},"term":1,"journal":102,"reach":"not-awaited","repeated":false}
{"line":"operation","id":3,"client":"c1","participant":"p0","facility":"home","call_us":50,"return_us":60,"action":"put","request":"q3","document":"d3","body_sha256":"s3","body_bytes":3,"outcome":"unknown","error":"no answer"}
{"line":"operation","id":4,"client":"c1","participant":"p0","facility":"home","call_us":70,"return_us":80,"action":"resolve","of":"q3","outcome":"committed","record":"r3","version":1,"at":{"timeline":0,"index":13},"term":1,"journal":103,"reach":"not-awaited","repeated":true}
{"line":"operation","id":5,"client":"c1","participant":"p0","facility":"home","call_us":90,"return_us":100,"action":"put","request":"q5","document":"d5","body_sha256":"s5","body_bytes":5,"outcome":"unknown","error":"no answer"}
{"line":"operation","id":6,"client":"c1","participant":"p0","facility":"home","call_us":110,"return_us":120,"action":"resolve","of":"q5","outcome":"absent"}
{"line":"operation","id":7,"client":"c1","participant":"p0","facility":"home","call_us":130,"return_us":140,"action":"put","request":"q7","document":"d1","body_sha256":"s1","body_bytes":1,"outcome":"committed","record":"r1","version":1,"at":{"timeline":0,"index":11},"term":1,"journal":101,"reach":"not-awaited","repeated":true}
{"line":"operation","id":8,"client":"c0","participant":"p0","facility":"visitor","call_us":150,"return_us":160,"action":"get","record":"r1","outcome":"read","sha256":"s1","bytes":1,"version":1,"at":{"timeline":0,"index":20},"journal":104}
{"line":"operation","id":9,"client":"c0","participant":"p0","facility":"visitor","call_us":170,"return_us":180,"action":"revoke","request":"q9","outcome":"committed","record":"","version":0,"at":{"timeline":0,"index":21},"term":1,"journal":105,"reach":"beyond-prefecture","repeated":false}
{"line":"operation","id":10,"client":"c0","participant":"p0","facility":"visitor","call_us":190,"return_us":200,"action":"get","record":"r1","outcome":"denied"}
{"line":"nemesis","round":1,"at_us":205,"event":"kill","target":"leader","nodes":["v1"],"leader":true,"writes_under_way":1}
{"line":"nemesis","round":1,"at_us":206,"event":"start","nodes":["v1"]}
{"line":"status","at_us":208,"timeline":0,"leader":"v2","settled":false,"members":[{"name":"v2","applied":21,"digest_index":21,"digest":"aa"},{"name":"b1","applied":20,"digest_index":20,"digest":"a9"}]}
{"line":"operation","id":11,"client":"c0","participant":"p0","facility":"visitor","call_us":210,"return_us":220,"action":"grant","request":"q11","outcome":"committed","record":"","version":0,"at":{"timeline":0,"index":23},"term":2,"journal":106,"reach":"not-awaited","repeated":false}
{"line":"operation","id":12,"client":"c0","participant":"p0","facility":"visitor","call_us":230,"return_us":240,"action":"get","record":"r2","outcome":"read","sha256":"s2","bytes":2,"version":1,"at":{"timeline":0,"index":24},"journal":107}
{"line":"final-scan","at_us":300}
{"line":"operation","id":13,"client":"s","node":"v1","participant":"p0","facility":"home","call_us":310,"return_us":311,"action":"get","record":"r1","outcome":"read","sha256":"s1","bytes":1,"version":1,"at":{"timeline":0,"index":31},"journal":111}
{"line":"operation","id":14,"client":"s","node":"v1","participant":"p0","facility":"home","call_us":320,"return_us":321,"action":"get","record":"r2","outcome":"read","sha256":"s2","bytes":2,"version":1,"at":{"timeline":0,"index":32},"journal":112}
{"line":"operation","id":15,"client":"s","node":"v1","participant":"p0","facility":"home","call_us":330,"return_us":331,"action":"get","record":"r3","outcome":"read","sha256":"s3","bytes":3,"version":1,"at":{"timeline":0,"index":33},"journal":113}
{"line":"operation","id":16,"client":"s","node":"v2","participant":"p0","facility":"home","call_us":340,"return_us":341,"action":"get","record":"r1","outcome":"read","sha256":"s1","bytes":1,"version":1,"at":{"timeline":0,"index":34},"journal":114}
{"line":"operation","id":17,"client":"s","node":"v2","participant":"p0","facility":"home","call_us":350,"return_us":351,"action":"get","record":"r2","outcome":"read","sha256":"s2","bytes":2,"version":1,"at":{"timeline":0,"index":35},"journal":115}
{"line":"operation","id":18,"client":"s","node":"v2","participant":"p0","facility":"home","call_us":360,"return_us":361,"action":"get","record":"r3","outcome":"read","sha256":"s3","bytes":3,"version":1,"at":{"timeline":0,"index":36},"journal":116}
{"line":"operation","id":19,"client":"s","node":"v1","participant":"p0","facility":"home","call_us":370,"return_us":371,"action":"list","outcome":"listed","records":[{"record":"r1","version":1,"document":"d1"},{"record":"r2","version":1},{"record":"r3","version":1,"document":"d3"}]}
{"line":"operation","id":20,"client":"s","node":"v2","participant":"p0","facility":"home","call_us":380,"return_us":381,"action":"list","outcome":"listed","records":[{"record":"r1","version":1,"document":"d1"},{"record":"r2","version":1},{"record":"r3","version":1,"document":"d3"}]}
{"line":"status","at_us":400,"timeline":0,"leader":"v2","settled":true,"members":[{"name":"v1","applied":38,"digest_index":38,"digest":"bb"},{"name":"v2","applied":38,"digest_index":38,"digest":"bb"},{"name":"b1","applied":38,"digest_index":38,"digest":"bb"}]}
{"line":"end","at_us":410,"operations":20}
"#;

/// A way to spoil the good history.
enum Spoil {
    /// In the line that contains the first text, the second becomes the third.
    Replace(&'static str, &'static str, &'static str),
    /// The line that contains the text goes.
    Remove(&'static str),
    /// An operation comes in before the final scan. Its id is 99.
    Insert(&'static str),
}

use Spoil::{Insert, Remove, Replace};

fn judge(spoils: &[Spoil]) -> BTreeSet<&'static str> {
    let mut lines: Vec<String> = GOOD.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    for spoil in spoils {
        let place = |mark: &str| {
            let found: Vec<usize> = (0..lines.len()).filter(|place| lines[*place].contains(mark)).collect();
            assert_eq!(found.len(), 1, "{mark} must name one line");
            found[0]
        };
        match spoil {
            Replace(mark, from, to) => {
                let place = place(mark);
                assert!(lines[place].contains(from), "{from} must be in the line of {mark}");
                lines[place] = lines[place].replacen(from, to, 1);
            }
            Remove(mark) => {
                let place = place(mark);
                lines.remove(place);
            }
            Insert(rest) => {
                let place = place("\"final-scan\"");
                lines.insert(place, format!(r#"{{"line":"operation","id":99,"client":"c9",{rest}}}"#));
            }
        }
    }
    // The count is kept right, so that each rule is met by itself.
    let operations = lines.iter().filter(|line| line.contains("\"line\":\"operation\"")).count();
    for line in &mut lines {
        *line = line.replace("\"operations\":20", &format!("\"operations\":{operations}"));
    }
    let lines: Vec<Line> = lines.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    check(&lines).violations.iter().map(|violation| violation.rule).collect()
}

#[test]
fn the_good_history_is_good() {
    assert_eq!(judge(&[]), BTreeSet::new());
    let lines: Vec<Line> =
        GOOD.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect();
    let figures = check(&lines).figures;
    let figure = |name: &str| figures.iter().find(|(known, _)| *known == name).unwrap().1.clone();
    assert_eq!(
        (figure("records"), figure("reads"), figure("journal entries named")),
        ("3".into(), "2".into(), "13".into())
    );
}

#[test]
fn each_rule_is_broken_by_its_histories() {
    let table: [(&str, Vec<Spoil>); 44] = [
        // Whole?
        ("incomplete", vec![Remove("\"line\":\"end\"")]),
        ("incomplete", vec![Replace("\"line\":\"header\"", "\"format\":1", "\"format\":2")]),
        ("incomplete", vec![Replace("\"line\":\"end\"", "\"operations\":20", "\"operations\":21")]),
        ("incomplete", vec![Replace("\"id\":2,", "\"id\":2", "\"id\":1")]),
        ("incomplete", vec![Replace("\"id\":6,", "\"return_us\":120", "\"return_us\":109")]),
        ("incomplete", vec![Remove("\"id\":6,")]),
        ("incomplete", vec![Replace("\"id\":6,", "absent", "forgotten")]),
        ("incomplete", vec![Remove("\"settled\":true")]),
        ("incomplete", vec![Replace("\"settled\":true", "\"at_us\":400", "\"at_us\":379")]),
        ("incomplete", vec![Remove("\"id\":20,")]),
        // Worth something?
        ("vacuous", vec![Replace("\"line\":\"header\"", "\"writes\":2", "\"writes\":4")]),
        ("vacuous", vec![Replace("\"line\":\"header\"", "\"reads\":2", "\"reads\":3")]),
        ("vacuous", vec![Replace("\"line\":\"header\"", "\"revocations\":1", "\"revocations\":2")]),
        ("vacuous", vec![Remove("\"event\":\"kill\"")]),
        ("vacuous", vec![Replace("\"event\":\"kill\"", "\"leader\":true", "\"leader\":false")]),
        ("vacuous", vec![Replace("\"event\":\"kill\"", "\"writes_under_way\":1", "\"writes_under_way\":0")]),
        // Nothing lost?
        ("lost", vec![Remove("\"id\":13,")]),
        ("lost", vec![Remove("\"id\":18,")]),
        ("lost", vec![Replace("\"id\":16,", GOT_R1, r#""outcome":"missing""#)]),
        ("lost", vec![Replace("\"id\":16,", GOT_R1, r#""outcome":"failed","error":"unavailable","passing":true"#)]),
        ("lost", vec![Replace("\"id\":19,", r#"{"record":"r2","version":1},"#, "")]),
        (
            "lost",
            vec![Insert(
                r#""participant":"p0","facility":"home","call_us":250,"return_us":260,"action":"get","record":"r1","outcome":"missing""#,
            )],
        ),
        (
            "lost",
            vec![Insert(
                r#""participant":"p0","facility":"home","call_us":250,"return_us":260,"action":"list","outcome":"missing""#,
            )],
        ),
        // Byte-exact?
        ("wrong-bytes", vec![Replace("\"id\":12,", "\"s2\"", "\"s1\"")]),
        ("wrong-bytes", vec![Replace("\"id\":17,", "\"bytes\":2", "\"bytes\":1")]),
        ("wrong-bytes", vec![Replace("\"id\":17,", "\"version\":1", "\"version\":2")]),
        ("wrong-bytes", vec![Replace("\"id\":20,", "\"r2\",\"version\":1", "\"r2\",\"version\":2")]),
        // Once?
        (
            "written-twice",
            vec![Replace("\"id\":7,", "\"r1\"", "\"r3\""), Replace("\"id\":7,", "\"journal\":101", "\"journal\":103")],
        ),
        ("written-twice", vec![Replace("\"id\":7,", "\"version\":1", "\"version\":2")]),
        ("written-twice", vec![Replace("\"id\":20,", "\"document\":\"d3\"", "\"document\":\"d1\"")]),
        (
            "written-twice",
            vec![Insert(
                r#""participant":"p0","facility":"home","call_us":121,"return_us":122,"action":"resolve","of":"q3","outcome":"absent""#,
            )],
        ),
        // Out of nowhere?
        ("appeared", vec![Replace("\"id\":20,", "[", r#"[{"record":"r5","version":1,"document":"d5"},"#)]),
        ("appeared", vec![Insert(READ_R5)]),
        // Consent?
        ("read-after-revocation", vec![Replace("\"id\":10,", r#""outcome":"denied""#, READ_R1)]),
        ("read-after-revocation", vec![Remove("\"id\":11,")]),
        (
            "refused-under-grant",
            vec![
                Replace("\"id\":12,", READ_R2, r#""outcome":"denied""#),
                Replace("\"line\":\"header\"", "\"reads\":2", "\"reads\":1"),
            ],
        ),
        (
            "refused-under-grant",
            vec![Insert(
                r#""participant":"p0","facility":"home","call_us":250,"return_us":260,"action":"put","request":"q99","body_sha256":"s9","body_bytes":9,"outcome":"denied""#,
            )],
        ),
        // Own journal entries?
        ("journal-shared", vec![Replace("\"id\":12,", "\"journal\":107", "\"journal\":104")]),
        ("journal-shared", vec![Replace("\"id\":2,", "\"journal\":102", "\"journal\":101")]),
        // In order?
        ("out-of-order", vec![Replace("\"id\":12,", "\"index\":24", "\"index\":19")]),
        // Equal?
        ("digest-differs", vec![Replace("\"settled\":true", "\"digest\":\"bb\"", "\"digest\":\"cc\"")]),
        ("digest-differs", vec![Replace("\"settled\":true", "\"name\":\"b1\"", "\"name\":\"v1\"")]),
        ("digest-differs", vec![Replace("\"settled\":false", "\"digest_index\":20", "\"digest_index\":21")]),
        // Right errors?
        (
            "error",
            vec![Replace(
                "\"id\":10,",
                r#""outcome":"denied""#,
                r#""outcome":"failed","error":"a node failed","passing":false"#,
            )],
        ),
    ];
    let judged = table.iter().enumerate().map(|(place, (rule, spoils))| (place, *rule, judge(spoils)));
    // The two oracles see much of it, too.
    let others = |rule: &str, found: &BTreeSet<&'static str>| {
        found.iter().any(|other| ![rule, "replay", "linearizable"].contains(other))
    };
    let wrong: Vec<_> = judged.filter(|(_, rule, found)| !found.contains(rule) || others(rule, found)).collect();
    assert_eq!(wrong, [], "place in the table, the rule that must find it, those that did");
}

const GOT_R1: &str =
    r#""outcome":"read","sha256":"s1","bytes":1,"version":1,"at":{"timeline":0,"index":34},"journal":114"#;
const READ_R1: &str =
    r#""outcome":"read","sha256":"s1","bytes":1,"version":1,"at":{"timeline":0,"index":22},"journal":121"#;
const READ_R5: &str = r#""participant":"p0","facility":"home","call_us":250,"return_us":260,"action":"get","record":"r5","outcome":"read","sha256":"s5","bytes":5,"version":1,"at":{"timeline":0,"index":25},"journal":120"#;
const READ_R2: &str =
    r#""outcome":"read","sha256":"s2","bytes":2,"version":1,"at":{"timeline":0,"index":24},"journal":107"#;

#[test]
fn a_read_that_overlaps_a_change_may_go_either_way() {
    // The revocation was not acknowledged before the read was called: both answers are right.
    let early = Replace("\"id\":10,", "\"call_us\":190", "\"call_us\":175");
    let read = Replace(
        "\"id\":10,",
        r#""outcome":"denied""#,
        r#""outcome":"read","sha256":"s1","bytes":1,"version":1,"at":{"timeline":0,"index":20},"journal":121"#,
    );
    let first = Replace("\"id\":8,", "\"index\":20", "\"index\":19");
    assert_eq!(judge(&[early, read, first]), BTreeSet::new());
    assert_eq!(judge(&[Replace("\"id\":10,", "\"call_us\":190", "\"call_us\":175")]), BTreeSet::new());
    // The same by position: decided above the revocation, it must have been refused.
    let early = Replace("\"id\":10,", "\"call_us\":190", "\"call_us\":175");
    let read = Replace("\"id\":10,", r#""outcome":"denied""#, READ_R1);
    let before = Replace("\"id\":9,", "\"index\":21", "\"index\":20");
    let first = Replace("\"id\":8,", "\"index\":20", "\"index\":19");
    assert_eq!(judge(&[early, read, before, first]), BTreeSet::from(["read-after-revocation", "replay"]));
}

#[test]
fn an_unknown_grant_opens_and_an_unknown_revocation_binds_once_it_is_resolved() {
    let unknown = r#""outcome":"unknown","error":"no answer""#;
    let grant = r#""outcome":"committed","record":"","version":0,"at":{"timeline":0,"index":23},"term":2,"journal":106,"reach":"not-awaited","repeated":false"#;
    // Never resolved: the read may be right, but the history is not whole.
    assert_eq!(judge(&[Replace("\"id\":11,", grant, unknown)]), BTreeSet::from(["incomplete"]));
    // Resolved as absent: there was no grant.
    let absent = r#""participant":"p0","facility":"visitor","call_us":245,"return_us":250,"action":"resolve","of":"q11","outcome":"absent""#;
    let judged = judge(&[Replace("\"id\":11,", grant, unknown), Insert(absent)]);
    assert_eq!(judged, BTreeSet::from(["read-after-revocation", "replay", "linearizable"]));
}

#[test]
fn a_write_in_doubt_explains_one_record_and_no_other() {
    // Nobody learned what became of operation 5, and its record is listed: the history is not whole, and nothing appeared.
    let doubt = || Remove("\"id\":6,");
    let listed = |id, records| Replace(id, "\"records\":[", records);
    let own = r#""records":[{"record":"r5","version":1,"document":"d5"},"#;
    let judged = judge(&[doubt(), listed("\"id\":19,", own), listed("\"id\":20,", own)]);
    assert_eq!(judged, BTreeSet::from(["incomplete"]));
    // Other lists have another record under its document id: one of the two came out of nowhere.
    let other = r#""records":[{"record":"r6","version":1,"document":"d5"},"#;
    let judged = judge(&[doubt(), listed("\"id\":19,", own), listed("\"id\":20,", other)]);
    assert_eq!(judged, BTreeSet::from(["incomplete", "appeared"]));
    for strange in [
        // Another document id, or none.
        r#""records":[{"record":"r5","version":1,"document":"d6"},"#,
        r#""records":[{"record":"r5","version":1},"#,
    ] {
        let judged = judge(&[doubt(), listed("\"id\":20,", strange)]);
        assert_eq!(judged, BTreeSet::from(["incomplete", "appeared"]), "{strange}");
    }
    // A list that returned before the write was called, and one of another participant.
    let early = r#""participant":"p0","facility":"home","call_us":81,"return_us":89,"action":"list","outcome":"listed","records":[{"record":"r1","version":1,"document":"d1"},{"record":"r2","version":1},{"record":"r3","version":1,"document":"d3"},{"record":"r5","version":1,"document":"d5"}]"#;
    let strange = r#""participant":"p1","facility":"home","call_us":250,"return_us":260,"action":"list","outcome":"listed","records":[{"record":"r5","version":1,"document":"d5"}]"#;
    for list in [early, strange] {
        assert_eq!(judge(&[doubt(), Insert(list)]), BTreeSet::from(["incomplete", "appeared"]), "{list}");
    }
    // What is read is known by its bytes.
    assert_eq!(judge(&[doubt(), Insert(READ_R5)]), BTreeSet::from(["incomplete"]));
    let others = Replace("\"id\":5,", "\"s5\"", "\"s6\"");
    assert_eq!(judge(&[doubt(), others, Insert(READ_R5)]), BTreeSet::from(["incomplete", "appeared"]));
}

#[test]
fn nothing_is_said_to_have_appeared_in_a_history_that_lacks_its_last_writes() {
    let list = Replace("\"id\":20,", "[", r#"[{"record":"r6","version":1,"document":"d6"},"#);
    assert_eq!(judge(&[list, Remove("\"line\":\"end\"")]), BTreeSet::from(["incomplete"]));
}

#[test]
fn a_history_without_a_header_or_with_two_is_not_judged() {
    assert_eq!(judge(&[Remove("\"line\":\"header\"")]), BTreeSet::from(["incomplete"]));
    assert_eq!(judge(&[Remove("\"line\":\"final-scan\"")]), BTreeSet::from(["incomplete"]));
}

#[test]
fn what_only_an_order_of_all_answers_shows_is_found() {
    let put = r#""client":"c2","participant":"p0","facility":"home","call_us":251,"return_us":280,"action":"put","request":"q98","body_sha256":"s8","body_bytes":8,"outcome":"committed","record":"r8","version":1,"at":{"timeline":0,"index":26},"term":2,"journal":130,"reach":"not-awaited","repeated":false"#;
    let list = |from: u64, records: &str| {
        let (one, to) = (
            r#"{"record":"r1","version":1,"document":"d1"},{"record":"r2","version":1},{"record":"r3","version":1,"document":"d3"}"#,
            from + 5,
        );
        format!(
            r#"{{"line":"operation","id":{from},"client":"c3","participant":"p0","facility":"home","call_us":{from},"return_us":{to},"action":"list","outcome":"listed","records":[{one}{records}]}}"#
        )
    };
    let with = r#",{"record":"r8","version":1}"#;
    let judged = |first: &str, second: &str| {
        let further = [format!(r#"{{"line":"operation","id":97,{put}}}"#), list(255, first), list(265, second)];
        let lines: Vec<Line> = GOOD
            .lines()
            .filter(|line| !line.is_empty())
            .flat_map(|line| {
                let last = line.contains("final-scan");
                further.iter().map(String::as_str).filter(move |_| last).chain([line])
            })
            .map(|line| serde_json::from_str(line).expect(line))
            .collect();
        let found: BTreeSet<_> = check(&lines).violations.into_iter().map(|violation| violation.rule).collect();
        found.contains("linearizable")
    };
    assert!(judged(with, ""), "a record that was there and then was not");
    assert!(!judged("", with), "a record that comes while it is written");
    // A read whose position lies before that of the write it tells of.
    let found = judge(&[Replace("\"id\":8,", "\"index\":20", "\"index\":10")]);
    assert!(found.contains("replay"), "{found:?}");
}
