//! The field numbers and wire types of rows: they are the format.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

use super::*;

/// Field numbers and wire types of an encoded message, in order: `v` varint, `b` bytes or message.
fn fields(message: &impl Message) -> String {
    let encoded = message.encode_to_vec();
    let mut rest = &encoded[..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (tag, kind) = decode_key(&mut rest).unwrap();
        skip_field(kind, tag, &mut rest, DecodeContext::default()).unwrap();
        let letter = match kind {
            WireType::Varint => 'v',
            WireType::LengthDelimited => 'b',
            other => panic!("rows hold no {other:?}"),
        };
        found.push(format!("{tag}{letter}"));
    }
    found.join(" ")
}

fn bytes() -> Bytes {
    Bytes::from_static(b"x")
}

fn text() -> String {
    "x".into()
}

fn actor() -> Option<ActorRow> {
    Some(ActorRow { kind: 1, ..ActorRow::default() })
}

fn approval() -> Option<Approval> {
    Some(Approval { by: actor(), at_ms: 1, timeline: 1 })
}

#[test]
fn rows_of_the_root_keys_custody_are_frozen() {
    let set = ShareSetRow {
        threshold: 2,
        root_check_value: bytes(),
        share_check_values: vec![bytes(), bytes()],
        split_ms: 1,
        operator: text(),
        registrar: text(),
        confirmed_ms: 1,
        operator_approval: approval(),
    };
    assert_eq!(fields(&set), "1v 2b 3b 3b 4v 5b 6b 7v 8b");
    assert_eq!(fields(&ShareSetsRow { sets: vec![set] }), "1b");
    let rotation = RotationRow {
        kind: 1,
        operator: text(),
        registrar: text(),
        asked_ms: 1,
        without_shares: true,
        next_check_value: bytes(),
        operator_approval: approval(),
        registrar_approval: approval(),
    };
    assert_eq!(fields(&rotation), "1v 2b 3b 4v 5v 6b 7b 8b");
    assert_eq!(fields(&approval().unwrap()), "1b 2v 3v");
    let member = MemberRow {
        name: text(),
        role: 1,
        raft_id: 1,
        key_sha256: bytes(),
        operator: text(),
        registrar: text(),
        address: text(),
        approved_ms: 1,
        next_key_sha256: bytes(),
        next_operator: text(),
        next_registrar: text(),
        operator_approval: approval(),
        registrar_approval: approval(),
        next_operator_approval: approval(),
        next_registrar_approval: approval(),
    };
    assert_eq!(fields(&member), "1b 2v 3v 4b 5b 6b 7b 8v 9b 10b 11b 12b 13b 14b 15b");
    let canary = CanaryRow { pseudonym: bytes(), content_id: bytes(), blocks: 1, bytes: 1, sha256: bytes() };
    assert_eq!(fields(&canary), "1b 2b 3v 4v 5b");
    let drill = DrillRow { key_check_value: bytes(), prepared_ms: 1, operator: text(), canaries: vec![canary] };
    assert_eq!(fields(&drill), "1b 2v 3b 4b");
    let keyring = KeyringRow {
        epoch: 1,
        registry: bytes(),
        journal: bytes(),
        command_mac: bytes(),
        wrapping: bytes(),
        index: bytes(),
        recovery_private_key: bytes(),
        root_check_value: bytes(),
        recovery_ca_private_key: bytes(),
        timeline: 1,
    };
    assert_eq!(fields(&keyring), "1v 2b 3b 4b 5b 6b 7b 8b 9b 10v");
}

#[test]
fn rows_of_two_person_acts_and_reviews_are_frozen() {
    let act = ActRow {
        id: bytes(),
        kind: 1,
        state: 1,
        object: text(),
        payload: bytes(),
        payload_sha256: bytes(),
        base_timeline: 1,
        base_index: 1,
        proposed_by: actor(),
        proposed_ms: 1,
        closed_by: actor(),
        closed_ms: 1,
        expires_ms: 1,
        reason: text(),
    };
    assert_eq!(fields(&act), "1b 2v 3v 4b 5b 6b 7v 8v 9b 10v 11b 12v 13v 14b");
    let review = ReviewRow {
        id: bytes(),
        kind: 1,
        state: 1,
        queued_ms: 1,
        pseudonym: bytes(),
        number: text(),
        actor: actor(),
        reason: text(),
        episode_id: bytes(),
        facility: text(),
        reviewer: actor(),
        reviewed_ms: 1,
        verdict: 1,
        note: text(),
        duplicate: text(),
    };
    assert_eq!(fields(&review), "1b 2v 3v 4v 5b 6b 7b 8b 9b 10b 11b 12v 13v 14b 15b");
    let slice = CounterSlice { began_ms: 1, last_ms: 1, count: 1 };
    assert_eq!(fields(&slice), "1v 2v 3v");
    assert_eq!(fields(&CounterRow { slices: vec![slice] }), "3b");
    assert_eq!(fields(&AliasProposal { stays: bytes(), duplicate: bytes(), evidence: text() }), "1b 2b 3b");
}

#[test]
fn rows_of_emergencies_are_frozen() {
    let episode = EpisodeRow {
        id: bytes(),
        pseudonym: bytes(),
        number: text(),
        facility: text(),
        user: text(),
        application: text(),
        reason: text(),
        opened_ms: 1,
        expires_ms: 1,
        review_id: bytes(),
        consent_number: Some(0),
    };
    assert_eq!(fields(&episode), "1b 2b 3b 4b 5b 6b 7b 8v 9v 10b 11v");
    let disaster = DisasterRow {
        name: text(),
        from_ms: 1,
        until_ms: 1,
        professions: vec![1],
        facility_kinds: vec![1],
        facilities: vec![text()],
        caps_factor: 1,
        proposed_by: actor(),
        confirmed_by: actor(),
        ended_by: actor(),
    };
    assert_eq!(fields(&disaster), "1b 2v 3v 4b 5b 6b 7v 8b 9b 10b");
}

#[test]
fn rows_of_erasures_are_frozen() {
    let report = ErasureReport {
        member: text(),
        raft_id: 1,
        purged_index: 1,
        log_compacted: true,
        keys_compacted: true,
        checkpoints_gone: true,
        at_ms: 1,
        archive: Some(ErasureArchive { index: 1, ledger_index: 1, generations: vec![1] }),
    };
    assert_eq!(fields(&report), "1b 2v 3v 4v 5v 6v 7v 8b");
    assert_eq!(fields(&report.archive.unwrap_or_default()), "1v 2v 3b");
    let erasure = ErasureRow {
        pseudonym: bytes(),
        state: 1,
        asked_by: actor(),
        asked_ms: 1,
        evidence: text(),
        approved_by: actor(),
        approved_ms: 1,
        grace_until_ms: 1,
        stopped_by: actor(),
        stopped_ms: 1,
        stop_reason: text(),
        erased_ms: 1,
        erased_timeline: 1,
        keys_last_index: 1,
        reports: vec![ErasureReport::default()],
        exports: vec![text()],
        unreported_members: vec![text()],
        certified_ms: 1,
        duplicates: vec![bytes()],
        swept_ms: 1,
    };
    assert_eq!(fields(&erasure), "1b 2v 3b 4v 5b 6b 7v 8v 9b 10v 11b 12v 13v 14v 15b 16b 17b 18v 19b 20v");
    assert_eq!(fields(&ErasedNumberRow { pseudonym: bytes(), erased_ms: 1 }), "1b 2v");
    assert_eq!(fields(&ErasureDayRow { day: 1, erased: 1 }), "1v 2v");
}

#[test]
fn rows_of_settings_are_frozen() {
    let settings = SettingsRow {
        professions: vec![ProfessionClasses { profession: 1, classes: vec![1] }],
        emergency_ms: Some(0),
        emergency_window_ms: Some(0),
        emergency_user_max: Some(0),
        emergency_facility_max: Some(0),
        emergency_application_max: Some(0),
        emergency_credential: Some(false),
        disaster_ms_max: Some(0),
        erasure_grace_ms: Some(0),
        erasures_day_max: Some(0),
        act_ms: Some(0),
        own_grants_max: Some(0),
        own_grants_window_ms: Some(0),
        participants_read: Some(false),
        accesses_show_person: Some(false),
    };
    // What is set to nothing is told from what is not set.
    assert_eq!(fields(&settings), "1b 2v 3v 4v 5v 6v 7v 8v 9v 10v 11v 12v 13v 14v 15v");
    assert_eq!(fields(&SettingsRow::default()), "");
}

#[test]
fn rows_of_participants_are_frozen() {
    let consent = ParticipationConsent {
        signed_day: 1,
        proxy: text(),
        proxy_relation: text(),
        evidence: text(),
        entered_ms: 1,
        withdrawn_ms: 1,
        entered_by: text(),
        entered_by_user: text(),
        own_records: true,
        secondary_use: true,
        withdrawn_by: text(),
        withdrawal_evidence: text(),
        review_id: bytes(),
    };
    assert_eq!(fields(&consent), "1v 2b 3b 4b 5v 6v 7b 8b 9v 10v 11b 12b 13b");
    let grant = Grant {
        facility: text(),
        granted_ms: 1,
        revoked_ms: 1,
        entered_by: text(),
        by_beneficiary: true,
        evidence: text(),
        entered_by_user: text(),
        revoked_by: text(),
        revocation_evidence: text(),
        review_id: bytes(),
        consent_ms: 1,
        consent_number: 1,
        confirmed_ms: 1,
    };
    assert_eq!(fields(&grant), "1b 2v 3v 4b 5v 6b 7b 8b 9b 10b 11v 12v 13v");
    let present_consent = PresentConsent {
        signed_day: 1,
        entered_ms: 1,
        entered_by: text(),
        withdrawn_ms: 1,
        history_number: 1,
        review_id: bytes(),
    };
    assert_eq!(fields(&present_consent), "1v 2v 3b 4v 5v 6b");
    let present_grant =
        PresentGrant { facility: text(), granted_ms: 1, history_number: 1, by_participant: true, review_id: bytes() };
    assert_eq!(fields(&present_grant), "1b 2v 3v 4v 5b");
    let alias = Alias {
        number: text(),
        pseudonym: bytes(),
        at_ms: 1,
        registrar: text(),
        evidence: text(),
        // Rows of before this field.
        consent_day: None,
    };
    assert_eq!(fields(&alias), "1b 2b 3v 4b 5b");
    let participant = Participant {
        number: text(),
        consent: Some(present_consent),
        grants: vec![present_grant],
        changed_ms: 1,
        history_rows: 1,
        key_version: 1,
        card_serial: text(),
        aliases: vec![alias],
        alias_of: bytes(),
        held_records: 1,
        cards: 1,
    };
    assert_eq!(fields(&participant), "1b 4v 5b 6b 7b 8v 9b 10b 11v 12v 13v");
    let event =
        LinkEvent { pseudonym: bytes(), linked_ms: 1, relinked_ms: 1, relinked_by_user: text(), reason: text() };
    assert_eq!(fields(&event), "1b 2v 3v 4b 5b");
    let link = LinkRow {
        pseudonym: bytes(),
        facility: text(),
        local_id: text(),
        linked_ms: 1,
        linked_by_user: text(),
        former: vec![event],
    };
    assert_eq!(fields(&link), "1b 2b 3b 4v 5b 6b");
    let card = CardRow {
        pseudonym: bytes(),
        serial: text(),
        issued_ms: 1,
        replaced_ms: 1,
        issued_by: actor(),
        evidence: text(),
    };
    assert_eq!(fields(&card), "1b 2b 3v 4v 5b 6b");
    let number = NumberRow { pseudonym: bytes(), alias: true, aliased_ms: 1, former_pseudonym: bytes() };
    assert_eq!(fields(&number), "1b 2v 3v 4b");
}

#[test]
fn a_report_is_complete_only_if_nothing_is_left() {
    let complete = ErasureReport {
        purged_index: 7,
        log_compacted: true,
        keys_compacted: true,
        checkpoints_gone: true,
        ..ErasureReport::default()
    };
    assert!(complete.is_complete(7));
    assert!(!complete.is_complete(8));
    for missing in [
        ErasureReport { log_compacted: false, ..complete.clone() },
        ErasureReport { keys_compacted: false, ..complete.clone() },
        ErasureReport { checkpoints_gone: false, ..complete.clone() },
    ] {
        assert!(!missing.is_complete(7));
    }
}
