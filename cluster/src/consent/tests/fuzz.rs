//! `decide` over rows that hold anything: it never panics, and what people propose fits into its bounds.

use bolero::check;
use kura_fuzz::{CASES, DRAWN_BYTES_MAX};
use prost::Message;

use super::super::*;
use crate::row::*;
use crate::word::{AccessLine, Class, Profession, Purpose, Status};

/// Cuts an input into pieces: a length (1 byte), then so many bytes.
struct Pieces<'a>(&'a [u8]);

impl<'a> Pieces<'a> {
    fn byte(&mut self) -> u8 {
        let (byte, rest) = self.0.split_first().map_or((0, self.0), |(byte, rest)| (*byte, rest));
        self.0 = rest;
        byte
    }

    fn piece(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (piece, rest) = self.0.split_at(length);
        self.0 = rest;
        piece
    }

    /// A row as a damaged database may hold it. Opened rows are authentic: this is more than can happen.
    fn row<M: Message + Default>(&mut self) -> Option<M> {
        M::decode(self.piece()).ok()
    }

    fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        let piece = self.piece();
        piece.iter().zip(&mut bytes).for_each(|(from, to)| *to = *from);
        u64::from_le_bytes(bytes)
    }
}

/// Pieces of a world in which much is permitted: who edits it a little comes far into the rules.
fn world() -> Vec<u8> {
    let active = Status::Active.number();
    let line = AccessLine::IpVpn.number();
    let application = Application {
        name: "ehr".into(),
        status: active,
        access_line: line,
        participants: true,
        facilities: vec!["F".into()],
    };
    let facility =
        Facility { id: "F".into(), status: active, access_line: line, emergency: true, ..Facility::default() };
    let user = User {
        id: "d".into(),
        facility: "F".into(),
        status: active,
        profession: Profession::Physician.number(),
        credential_sha256: vec![1; 32].into(),
        ..User::default()
    };
    let participant = Participant {
        number: "7".into(),
        consent: Some(PresentConsent { signed_day: 1, ..PresentConsent::default() }),
        grants: vec![PresentGrant { facility: "F".into(), ..PresentGrant::default() }],
        ..Participant::default()
    };
    let disaster = DisasterRow { from_ms: 0, until_ms: u64::MAX, caps_factor: u32::MAX, ..DisasterRow::default() };
    let episode = EpisodeRow {
        facility: "F".into(),
        user: "d".into(),
        application: "ehr".into(),
        number: "7".into(),
        expires_ms: u64::MAX,
        ..EpisodeRow::default()
    };
    let rows: [Vec<u8>; 13] = [
        SettingsRow::default().encode_to_vec(),
        ActorRow { name: "7".into(), credential_sha256: vec![1; 32].into(), ..ActorRow::default() }.encode_to_vec(),
        application.encode_to_vec(),
        facility.encode_to_vec(),
        user.encode_to_vec(),
        participant.encode_to_vec(),
        disaster.encode_to_vec(),
        episode.encode_to_vec(),
        ErasureRow { state: 2, ..ErasureRow::default() }.encode_to_vec(),
        ErasureDayRow { day: 1, erased: 9 }.encode_to_vec(),
        CounterRow { slices: vec![CounterSlice { began_ms: 1, last_ms: 2, count: 50 }] }.encode_to_vec(),
        ActRow { state: 1, ..ActRow::default() }.encode_to_vec(),
        RecordControl { author_facility: "F".into(), class: 1, clinical_day: 9, ..RecordControl::default() }
            .encode_to_vec(),
    ];
    let pieces = rows.iter().map(|row| &row[..]).chain([&b"words"[..], &[9], &[9]]);
    pieces.flat_map(|piece| [&[piece.len() as u8][..], piece].concat()).collect()
}

#[test]
fn settings_and_disasters_are_bounded_whatever_is_stored() {
    check!().with_iterations(CASES).with_max_len(DRAWN_BYTES_MAX).for_each(|drawn: &[u8]| {
        let mut pieces = Pieces(drawn);
        let row: SettingsRow = pieces.row().unwrap_or_default();
        let settings = Settings::from_row(&row);
        // Whatever is stored: in bounds once read, and it stays as it was read.
        assert_eq!(Settings::check(&settings.to_row()), Ok(()));
        assert_eq!(Settings::from_row(&settings.to_row()), settings);
        assert!(settings.covers(&settings));
        if let Some(disaster) = pieces.row::<DisasterRow>()
            && settings.check_disaster(&disaster).is_ok()
        {
            assert!(disaster.until_ms > disaster.from_ms || disaster.from_ms == u64::MAX);
            assert!(disaster.until_ms - disaster.from_ms <= settings.disaster_ms_max);
        }
    });
}

#[test]
fn no_row_makes_a_decision_panic() {
    let samples = [world()];
    check!().with_iterations(CASES).with_max_len(DRAWN_BYTES_MAX).for_each(|drawn: &[u8]| {
        let bytes = kura_fuzz::shaped(drawn, &samples);
        let mut pieces = Pieces(&bytes);
        let settings = Settings::from_row(&pieces.row().unwrap_or_default());
        let person: ActorRow = pieces.row().unwrap_or_default();
        let (application, facility): (Option<Application>, Option<Facility>) = (pieces.row(), pieces.row());
        let (user, participant): (Option<User>, Option<Participant>) = (pieces.row(), pieces.row());
        let (disaster, episode): (Option<DisasterRow>, Option<EpisodeRow>) = (pieces.row(), pieces.row());
        let (erasure, day): (Option<ErasureRow>, Option<ErasureDayRow>) = (pieces.row(), pieces.row());
        let (counter, act): (Option<CounterRow>, Option<ActRow>) = (pieces.row(), pieces.row());
        let control: Option<RecordControl> = pieces.row();
        let record = control.as_ref().map(|control| RecordFacts { control, alias_day: None });
        let text = String::from_utf8_lossy(pieces.piece()).into_owned();
        let addressees = [text.clone()];
        let (now_ms, day_number) = (pieces.number(), pieces.number() as i32);
        let counters = EmergencyCounters {
            user: counter.as_ref(),
            credential: counter.as_ref(),
            facility: counter.as_ref(),
            application: counter.as_ref(),
        };
        let terms = ConsentTerms {
            signed_day: day_number,
            proxy: &text,
            proxy_relation: &text,
            evidence: &text,
            own_records: false,
            secondary_use: false,
        };
        let erasure = erasure.as_ref();
        let acts = [
            Act::Enrol { terms, erasure },
            Act::Grant {
                beneficiary: facility.as_ref(),
                evidence: &text,
                own_grants: counter.as_ref(),
                returned: counter.as_ref(),
                reviewed: now_ms & 1 == 1,
            },
            Act::Write {
                class: Class::Allergy,
                clinical_day: day_number,
                addressees: &addressees,
                earlier: Some(record),
                body_day: Some(day_number),
                related: None,
            },
            Act::Read { record },
            Act::Narrow { record, addressees: &addressees },
            Act::Release { record, evidence: &text },
            Act::OpenEmergency { reason: &text, counters },
            Act::EndDisaster,
            Act::Confirm(Confirmation { act: act.as_ref(), base: crate::Revision::ABSENT, payload_sha256: &[] }),
            Act::Alias { duplicate: participant.as_ref(), evidence: &text, second: None },
            Act::ApproveErasure { erasure },
            Act::Erase { erasure, day: day.as_ref() },
            Act::CertifyErasure { erasure, members: &[1, now_ms] },
        ];
        let actors = [Actor::FacilityUser, Actor::Participant, Actor::Registrar, Actor::Cluster];
        for act in acts {
            for actor in actors {
                for emergency in [None, Some(Emergency { episode: episode.as_ref() })] {
                    let facts = Facts {
                        now_ms,
                        actor,
                        person: &person,
                        act,
                        purpose: Some(Purpose::Care),
                        emergency,
                        application: application.as_ref(),
                        facility: facility.as_ref(),
                        user: user.as_ref(),
                        participant: participant.as_ref(),
                        settings: &settings,
                        disaster: disaster.as_ref(),
                    };
                    // Without an application nobody of a facility is anybody.
                    let decision = decide(&facts);
                    assert!(
                        application.is_some()
                            || !matches!(actor, Actor::FacilityUser | Actor::Participant)
                            || matches!(decision, Decision::Deny { .. })
                    );
                }
            }
        }
        let _ = count_after(counter.as_ref(), settings.emergency_window_ms, now_ms);
    });
}
