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
    let vocabularies = both![Class, FacilityKind, Status, AccessLine, Profession, Method, Purpose, ActorKind, Action];
    for (name, cluster, client) in vocabularies {
        assert!(!cluster.is_empty());
        assert_eq!(cluster, client, "{name}");
    }
}
