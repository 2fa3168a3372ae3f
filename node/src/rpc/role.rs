//! Which role's certificate may make which call.

use crate::certificates::Role;

macro_rules! calls {
    ($($(#[$doc:meta])* $call:ident: $($role:ident),+;)+) => {
        /// A call of the client-facing services.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Call { $($(#[$doc])* $call),+ }

        impl Call {
            /// Every call.
            pub const ALL: &'static [Call] = &[$(Call::$call),+];

            /// Whether a certificate of this role may make it.
            pub fn allows(self, role: Role) -> bool {
                match self { $(Call::$call => matches!(role, $(Role::$role)|+)),+ }
            }

            /// The words of the roles that may make it, for people.
            pub fn roles(self) -> String {
                let words: &[&str] = match self { $(Call::$call => &[$(Role::$role.word()),+]),+ };
                words.join(" or ")
            }
        }
    };
}

calls! {
    /// Writing records.
    Put: Application;
    /// Reading records, listings, history.
    Get: Application;
    /// Opening an emergency.
    Emergency: Application;
    /// Hiding and narrowing.
    Control: Application;
    /// Legal hold.
    Hold: Registrar;
    /// A facility's inbox, and who granted it.
    OwnFacility: Application;
    /// The outcome of the caller's own request.
    Outcome: Application, Registrar, Auditor;
    /// Enrolment, links, consents.
    Consent: Application;
    /// Issuing and replacing cards.
    IssueCard: Application, Registrar;
    /// Making a duplicate enrolment an alias.
    Alias: Registrar;
    /// Asking for an erasure, and stopping it.
    AskErasure: Application, Registrar;
    /// Approving an erasure.
    ApproveErasure: Registrar;
    /// How far an erasure has come.
    ShowErasure: Application, Registrar, Auditor;
    /// All erasures.
    ListErasures: Registrar, Auditor;
    /// The participant's own list of accesses.
    Accesses: Application;
    /// Heads, proofs and sealed entries of the journal: nothing of it is opened.
    JournalProof: Application, Registrar, Auditor, Operator, Recovery;
    /// The opened journal.
    ListJournal: Auditor;
    /// The review queue: listing it, giving verdicts.
    Review: Auditor;
    /// Changing the registry.
    Register: Registrar;
    /// Reading the registry.
    ListRegistry: Registrar, Auditor;
    /// Status.
    Status: Operator, Recovery, Registrar, Auditor, Voter, Backup;
    /// Approving a member.
    ApproveMember: Operator, Registrar;
    /// Changing the membership, handing over leadership, having a member check its files.
    ChangeMembership: Operator;
    /// The custody of the keys: which shares count, what waits.
    KeyStatus: Operator, Recovery, Registrar, Auditor;
    /// Submitting a share to a sealed voter.
    SubmitShare: Recovery;
    /// Recording a set of shares.
    RecordShares: Operator;
    /// Confirming a set of shares.
    ConfirmShares: Registrar;
    /// Rotating keys; it takes both.
    RotateKeys: Operator, Registrar;
    /// Storing synthetic participants for drills.
    PrepareDrill: Operator;
    /// Serving more after a recovery.
    OpenService: Recovery;
    /// Offering what a former member's disk has.
    Salvage: Recovery;
    /// Forwarding an admitted membership change to the leader.
    Forward: Voter;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_roles_is_as_documented() {
        let table: Vec<String> = Call::ALL
            .iter()
            .map(|call| {
                let roles: Vec<_> =
                    Role::ALL.iter().filter(|role| call.allows(**role)).map(|role| role.word()).collect();
                format!("{call:?}: {}", roles.join(" "))
            })
            .collect();
        assert_eq!(
            table.join("\n"),
            "Put: application\n\
             Get: application\n\
             Emergency: application\n\
             Control: application\n\
             Hold: registrar\n\
             OwnFacility: application\n\
             Outcome: application registrar auditor\n\
             Consent: application\n\
             IssueCard: application registrar\n\
             Alias: registrar\n\
             AskErasure: application registrar\n\
             ApproveErasure: registrar\n\
             ShowErasure: application registrar auditor\n\
             ListErasures: registrar auditor\n\
             Accesses: application\n\
             JournalProof: application registrar auditor operator recovery\n\
             ListJournal: auditor\n\
             Review: auditor\n\
             Register: registrar\n\
             ListRegistry: registrar auditor\n\
             Status: registrar auditor operator recovery voter backup\n\
             ApproveMember: registrar operator\n\
             ChangeMembership: operator\n\
             KeyStatus: registrar auditor operator recovery\n\
             SubmitShare: recovery\n\
             RecordShares: operator\n\
             ConfirmShares: registrar\n\
             RotateKeys: registrar operator\n\
             PrepareDrill: operator\n\
             OpenService: recovery\n\
             Salvage: recovery\n\
             Forward: voter"
        );
    }

    #[test]
    fn nobody_but_an_auditor_opens_the_journal() {
        let openers: Vec<Role> = Role::ALL.iter().copied().filter(|role| Call::ListJournal.allows(*role)).collect();
        assert_eq!(openers, [Role::Auditor]);
    }

    #[test]
    fn no_operator_and_no_node_reads_a_record() {
        for role in [Role::Operator, Role::Recovery, Role::Voter, Role::Backup, Role::Registrar, Role::Auditor] {
            for call in
                [Call::Put, Call::Get, Call::Emergency, Call::Control, Call::OwnFacility, Call::Consent, Call::Accesses]
            {
                assert!(!call.allows(role), "{call:?} by {role:?}");
            }
        }
    }
}
