//! Whether all is well, as an exit code: for scripts that watch.

use kura_client::wire;
use kura_proto::agreement::DIFFERENT;

use crate::cli::exit::{Exit, Failure};

/// Ends with [`Exit::Unwell`] if the status shows anything that somebody has to look at. A WARNING is none: it may be
/// meant.
pub fn judge(reply: &wire::StatusReply) -> Result<(), Failure> {
    let mut found = Vec::new();
    if reply.removed_ms != 0 {
        found.push(format!("{} is not a member any more", reply.node));
    }
    if reply.leader_id == 0 {
        found.push("there is no leader".to_owned());
    }
    for member in &reply.members {
        let name = &member.name;
        match member {
            wire::MemberStatus { reachable: false, .. } => found.push(format!("{name} does not answer")),
            wire::MemberStatus { trouble, .. } if !trouble.is_empty() => found.push(format!("TROUBLE at {name}")),
            wire::MemberStatus { agreement: DIFFERENT, .. } => found.push(format!("{name} is DIFFERENT")),
            _ => {}
        }
    }
    if reply.drill.as_ref().is_some_and(|drill| !drill.failed.is_empty()) {
        found.push("the last drill failed".to_owned());
    }
    found.extend(reply.alarms.iter().map(|alarm| format!("ALARM: {alarm}")));
    if found.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Unwell, found.join("; ")).next("`kura status` shows each; docs/operations.md, \"Status\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> wire::StatusReply {
        let member = wire::MemberStatus { name: "voter-1".into(), reachable: true, ..Default::default() };
        wire::StatusReply {
            leader_id: 1,
            members: vec![member],
            warnings: vec!["one voter".into()],
            ..Default::default()
        }
    }

    #[test]
    fn whatever_takes_a_look_is_a_code_of_its_own_and_a_warning_is_not() {
        assert!(judge(&well()).is_ok());
        let said = |change: fn(&mut wire::StatusReply)| {
            let mut reply = well();
            change(&mut reply);
            let failure = judge(&reply).unwrap_err();
            assert_eq!(failure.exit, Exit::Unwell);
            failure.message
        };
        assert_eq!(said(|reply| reply.leader_id = 0), "there is no leader");
        assert_eq!(said(|reply| reply.members[0].reachable = false), "voter-1 does not answer");
        assert_eq!(said(|reply| reply.members[0].trouble = "low space".into()), "TROUBLE at voter-1");
        assert_eq!(said(|reply| reply.members[0].agreement = DIFFERENT), "voter-1 is DIFFERENT");
        assert_eq!(said(|reply| reply.alarms = vec!["shares".into()]), "ALARM: shares");
        assert!(said(|reply| reply.removed_ms = 1).contains("not a member"));
        let failed = said(|reply| {
            reply.drill = Some(wire::DrillPoint { failed: "replay".into(), ..Default::default() });
        });
        assert_eq!(failed, "the last drill failed");
    }
}
