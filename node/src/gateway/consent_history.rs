//! A participant's consents and grants as they were at a time.
//!
//! Invariants
//! - Nothing is forgotten: what ended stays in the row with the time at which it ended, so that every time
//!   can be asked for.
//! - A withdrawal ends the consent and every grant. Whoever takes part again begins without grants.

use kura_cluster::row::{Participant, ParticipationConsent};
use kura_proto::v1;

/// As it is now. Not the gateway's own clock: what another gateway entered may lie a little ahead of it.
pub const NOW_MS: u64 = u64::MAX;

/// Who ended something, on which evidence.
pub struct End<'a> {
    /// When.
    pub at_ms: u64,
    /// The facility that entered it, or empty for the participant.
    pub by: &'a str,
    /// Reference to the evidence.
    pub evidence: &'a str,
}

/// Ends the grants that `which` names and that have not ended.
pub fn end_grants(row: &mut Participant, end: &End<'_>, which: impl Fn(&str) -> bool) {
    for grant in row.grants.iter_mut().filter(|grant| grant.revoked_ms == 0 && which(&grant.facility)) {
        grant.revoked_ms = end.at_ms;
        grant.revoked_by = end.by.into();
        grant.revocation_evidence = end.evidence.into();
    }
}

/// Ends the present consent, and with it every grant.
pub fn end_consent(row: &mut Participant, end: &End<'_>) {
    if let Some(consent) = row.consents.last_mut() {
        consent.withdrawn_ms = end.at_ms;
        consent.withdrawn_by = end.by.into();
        consent.withdrawal_evidence = end.evidence.into();
    }
    end_grants(row, end, |_| true);
}

/// What there was at a time: the consent entered last and the grants made until then, each with its end if
/// that had come. None if nothing had been entered.
pub fn as_of(row: &Participant, at_ms: u64) -> Option<v1::ShowReply> {
    let consent = row.consents.iter().rfind(|consent| consent.entered_ms <= at_ms)?;
    let withdrawn = Some(consent).filter(|c| (1..=at_ms).contains(&c.withdrawn_ms));
    let grants = row.grants.iter().filter(|grant| grant.granted_ms <= at_ms).map(|grant| {
        let revoked = Some(grant).filter(|g| (1..=at_ms).contains(&g.revoked_ms));
        v1::GrantSummary {
            facility: grant.facility.clone(),
            granted_ms: grant.granted_ms,
            revoked_ms: revoked.map_or(0, |g| g.revoked_ms),
            entered_by: grant.entered_by.clone(),
            by_beneficiary: grant.by_beneficiary,
            evidence: grant.evidence.clone(),
            revoked_by: revoked.map(|g| g.revoked_by.clone()).unwrap_or_default(),
            revocation_evidence: revoked.map(|g| g.revocation_evidence.clone()).unwrap_or_default(),
        }
    });
    Some(v1::ShowReply {
        consent: Some(signed(consent)),
        entered_ms: consent.entered_ms,
        entered_by: consent.entered_by.clone(),
        withdrawn_ms: withdrawn.map_or(0, |c| c.withdrawn_ms),
        withdrawn_by: withdrawn.map(|c| c.withdrawn_by.clone()).unwrap_or_default(),
        withdrawal_evidence: withdrawn.map(|c| c.withdrawal_evidence.clone()).unwrap_or_default(),
        grants: grants.collect(),
        ..v1::ShowReply::default()
    })
}

fn signed(consent: &ParticipationConsent) -> v1::SignedConsent {
    v1::SignedConsent {
        signed_day: consent.signed_day,
        proxy: consent.proxy.clone(),
        proxy_relation: consent.proxy_relation.clone(),
        evidence: consent.evidence.clone(),
        own_records: consent.own_records,
        secondary_use: consent.secondary_use,
    }
}

#[cfg(test)]
mod tests {
    use kura_cluster::consent::{is_granted, present_consent};
    use kura_cluster::row::Grant;

    use super::*;

    fn consent(signed_day: i32, entered_ms: u64) -> ParticipationConsent {
        ParticipationConsent { signed_day, entered_ms, entered_by: "F1".into(), ..ParticipationConsent::default() }
    }

    fn grant(facility: &str, granted_ms: u64) -> Grant {
        Grant { facility: facility.into(), granted_ms, ..Grant::default() }
    }

    fn end(at_ms: u64) -> End<'static> {
        End { at_ms, by: "F1", evidence: "paper" }
    }

    /// Facilities that are named at a time.
    fn named(row: &Participant, at_ms: u64) -> Vec<String> {
        let shown = as_of(row, at_ms).unwrap();
        shown.grants.iter().filter(|g| g.revoked_ms == 0).map(|g| g.facility.clone()).collect()
    }

    /// Enrolled at 10 on the form of day 1; F1 named at 20, revoked at 30, named again at 40; F2 named at 45; left
    /// at 50; took part again at 60 on the form of day 2; F2 named at 70.
    fn history() -> Participant {
        let mut row =
            Participant { consents: vec![consent(1, 10)], grants: vec![grant("F1", 20)], ..Default::default() };
        end_grants(&mut row, &end(30), |facility| facility == "F1");
        row.grants.extend([grant("F1", 40), grant("F2", 45)]);
        end_consent(&mut row, &end(50));
        row.consents.push(consent(2, 60));
        row.grants.push(grant("F2", 70));
        row
    }

    #[test]
    fn every_time_shows_what_held_then() {
        let row = history();
        assert!(as_of(&row, 9).is_none());
        for (at_ms, day, left, facilities) in [
            (10, 1, false, &[][..]),
            (19, 1, false, &[]),
            (20, 1, false, &["F1"]),
            (29, 1, false, &["F1"]),
            (30, 1, false, &[]),
            (40, 1, false, &["F1"]),
            (49, 1, false, &["F1", "F2"]),
            (50, 1, true, &[]),
            (59, 1, true, &[]),
            (60, 2, false, &[]),
            (69, 2, false, &[]),
            (70, 2, false, &["F2"]),
            (NOW_MS, 2, false, &["F2"]),
        ] {
            let shown = as_of(&row, at_ms).unwrap();
            assert_eq!(shown.consent.as_ref().unwrap().signed_day, day, "at {at_ms}");
            assert_eq!(shown.withdrawn_ms != 0, left, "at {at_ms}");
            assert_eq!(shown.withdrawal_evidence, if left { "paper" } else { "" }, "at {at_ms}");
            assert_eq!(named(&row, at_ms), facilities, "at {at_ms}");
        }
        // What ended is still told, with its end and who entered that, from then on and not before.
        let ends = |at_ms| {
            let shown = as_of(&row, at_ms).unwrap();
            shown.grants.into_iter().map(|g| (g.granted_ms, g.revoked_ms, g.revoked_by)).collect::<Vec<_>>()
        };
        assert_eq!(ends(29), [(20, 0, String::new())]);
        assert_eq!(ends(30), [(20, 30, "F1".into())]);
        assert_eq!(ends(59)[1..], [(40, 50, "F1".into()), (45, 50, "F1".into())]);
    }

    #[test]
    fn whoever_takes_part_again_names_nobody_yet() {
        let mut row = history();
        row.grants.pop();
        assert!(present_consent(&row).is_some());
        assert!(!is_granted(&row, "F1") && !is_granted(&row, "F2"));
    }
}
