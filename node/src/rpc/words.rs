//! The vocabularies of cluster and client are written down twice, as neither crate may know the other.
//! Here both are known: they must be the same, or a number means one thing to the one who sends it and
//! another to the one who stores it.

/// Name, number and word of every member of a vocabulary, from both crates.
macro_rules! both {
    ($($vocabulary:ident),+) => {
        [$((
            stringify!($vocabulary),
            kura_cluster::word::$vocabulary::ALL.iter().map(|m| (format!("{m:?}"), m.number(), m.word())).collect::<Vec<_>>(),
            kura_client::$vocabulary::ALL.iter().map(|m| (format!("{m:?}"), m.number(), m.word())).collect::<Vec<_>>(),
        )),+]
    };
}

#[test]
fn cluster_and_client_use_the_same_words_and_numbers() {
    let vocabularies = both![
        Class,
        FacilityKind,
        Status,
        AccessLine,
        Profession,
        Method,
        Purpose,
        Relation,
        SignatureResult,
        ActorKind,
        Action,
        ActKind,
        ActState,
        ReviewKind,
        ReviewVerdict
    ];
    for (name, cluster, client) in vocabularies {
        assert!(!cluster.is_empty());
        assert_eq!(cluster, client, "{name}");
    }
}

/// Else the cluster has what no client may write, or read.
#[test]
fn no_bound_of_the_client_is_tighter_than_the_clusters() {
    use crate::gateway::limits as cluster;
    use kura_client::limit as client;

    let bounds = [
        ("id", client::OUTSIDE_ID_BYTES_MAX, kura_cluster::id::OUTSIDE_ID_BYTES_MAX),
        ("media type", client::MEDIA_TYPE_BYTES_MAX, cluster::TEXT_BYTES_MAX),
        ("part name", client::PART_NAME_BYTES_MAX, cluster::TEXT_BYTES_MAX),
        ("text", client::TEXT_BYTES_MAX, cluster::TEXT_BYTES_MAX),
        ("parts", client::PARTS_MAX, cluster::PARTS_MAX),
        ("addressees", client::ADDRESSEES_MAX, cluster::FACILITIES_MAX),
        ("former document ids", client::FORMER_DOCUMENT_IDS_MAX, cluster::FORMER_DOCUMENT_IDS_MAX),
        ("signature", client::SIGNATURE_BYTES_MAX, cluster::SIGNATURE_BYTES_MAX),
        ("records of several", client::SEVERAL_RECORDS_MAX, cluster::SEVERAL_RECORDS_MAX),
        ("page", client::PAGE_ITEMS_MAX as usize, cluster::PAGE_ROWS_MAX as usize),
    ];
    for (what, client, cluster) in bounds {
        assert!(client >= cluster, "{what}: {client} of the client, {cluster} of the cluster");
    }
}

/// The payload of an act is a row, and clients read it as a message of the wire: both have the same fields.
#[test]
fn the_rows_that_registrars_write_are_the_messages_that_they_are_shown() {
    use kura_cluster::consent::Settings;
    use kura_cluster::row::{ActorRow, Application, DisasterRow, Facility};
    use kura_proto::v1;
    use prost::Message;

    let row = Facility {
        id: "F1".into(),
        name: "n".into(),
        kind: 2,
        status: 3,
        access_line: 4,
        emergency: true,
        institution_code: "5".into(),
    };
    let wire = v1::Facility::decode(&row.encode_to_vec()[..]).unwrap();
    assert_eq!(wire.encode_to_vec(), row.encode_to_vec());
    assert_eq!((wire.id, wire.kind, wire.access_line, wire.institution_code), ("F1".into(), 2, 4, "5".into()));

    let facilities = vec!["F1".into(), "F2".into()];
    let row = Application { name: "a".into(), access_line: 2, facilities, status: 1, participants: true };
    let wire = v1::Application::decode(&row.encode_to_vec()[..]).unwrap();
    assert_eq!(wire.encode_to_vec(), row.encode_to_vec());
    assert_eq!((wire.name, wire.facilities.len(), wire.participants), ("a".into(), 2, true));

    let row = Settings::default().to_row();
    let wire = v1::Settings::decode(&row.encode_to_vec()[..]).unwrap();
    assert_eq!(wire.encode_to_vec(), row.encode_to_vec());
    assert_eq!((wire.act_ms, wire.accesses_show_person), (row.act_ms, Some(false)));

    let by = |name: &str| Some(ActorRow { kind: 3, name: name.into(), ..ActorRow::default() });
    let row = DisasterRow {
        name: "d".into(),
        from_ms: 1,
        until_ms: 2,
        professions: vec![3],
        facility_kinds: vec![4],
        facilities: vec!["F1".into()],
        caps_factor: 5,
        proposed_by: by("p"),
        confirmed_by: by("c"),
        ended_by: by("e"),
    };
    let wire = v1::Disaster::decode(&row.encode_to_vec()[..]).unwrap();
    assert_eq!(wire.encode_to_vec(), row.encode_to_vec());
    assert_eq!((wire.until_ms, wire.caps_factor, wire.ended_by.unwrap().name), (2, 5, "e".into()));
}
