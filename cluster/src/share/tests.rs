use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const CLUSTER: ClusterId = ClusterId([7; 16]);

fn key(n: u8) -> Key {
    Key::from_bytes(&mut [n; 32])
}

/// Bytes that depend on a seed alone.
fn drawn(seed: u64) -> impl FnMut(&mut [u8]) {
    let mut counter = 0_u64;
    move |bytes| {
        for chunk in bytes.chunks_mut(32) {
            let hash = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(counter.to_be_bytes()).finalize();
            chunk.copy_from_slice(&hash[..chunk.len()]);
            counter += 1;
        }
    }
}

fn split_of(n: u8, threshold: u8, holders: u8, seed: u64) -> (ShareSet, Vec<Share>) {
    split(&key(n), &CLUSTER, threshold, holders, drawn(seed)).unwrap()
}

fn again(share: &Share) -> Share {
    Share::from_bytes(&share.to_bytes()[..]).unwrap()
}

fn words(share: &Share) -> String {
    share.to_words().to_string()
}

/// Made by an independent restatement of the form, not by this code.
const FROZEN: [&str; 3] = [
    "absurd avoid lecture equip bring village tribe degree lamp danger water angry figure cereal hover fat \
     where salmon trip buyer aspect monster attend angry heart crowd sleep certain device syrup grass combine",
    "absurd avoid sample equip bring violin slide market dinner marine suggest ordinary scatter chronic senior dice \
     city dragon tragic ramp strong word hover poverty banner film tray very regret scrap sound ordinary",
    "absurd avoid yellow equip bring virtual client whale absorb pulp sausage awake rather coast pill chaos \
     multiply unveil pact clever wrist fantasy hazard trust demise hybrid rose fatigue promote daughter six ill",
];

#[test]
fn shares_are_frozen() {
    let (set, shares) = split_of(0x42, 2, 3, 1);
    assert_eq!(hexadecimal(set.fingerprint(&CLUSTER)), "fc2611c3e8");
    for (share, frozen) in shares.iter().zip(FROZEN) {
        assert_eq!(words(share), frozen);
    }
    let mut gathering = Gathering::new(&CLUSTER, set);
    assert!(matches!(gathering.add(Share::from_words(FROZEN[2]).unwrap()), Ok(Gathered::Waiting { held: 1, .. })));
    assert!(
        matches!(gathering.add(Share::from_words(FROZEN[0]).unwrap()), Ok(Gathered::Key(found)) if found == key(0x42))
    );
}

#[test]
fn the_word_list_is_bip_39s() {
    let list = include_str!("english.txt");
    let hash = hexadecimal(Sha256::digest(list.as_bytes()));
    assert_eq!(hash, "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda");
    assert!(list.lines().is_sorted() && list.lines().count() == 2048);
    let beginnings: BTreeSet<&str> = list.lines().map(|word| &word[..word.len().min(4)]).collect();
    assert_eq!(beginnings.len(), 2048);
}

/// Every subset of a small set: as many as the threshold restore the key, fewer never do.
#[test]
fn any_k_of_n_restore_the_key_and_fewer_never_do() {
    for holders in THRESHOLD_MIN..=5 {
        for threshold in THRESHOLD_MIN..=holders {
            let (set, shares) = split_of(9, threshold, holders, u64::from(holders) << 8 | u64::from(threshold));
            for subset in 1_u32..1 << holders {
                let chosen = || shares.iter().filter(|share| subset >> (share.index - 1) & 1 == 1);
                let count = chosen().count() as u8;
                let mut gathering = Gathering::new(&CLUSTER, set.clone());
                let mut last = None;
                for share in chosen().take(usize::from(threshold)) {
                    last = Some(gathering.add(again(share)).unwrap());
                }
                let restored = matches!(last, Some(Gathered::Key(found)) if found == key(9));
                assert_eq!(restored, count >= threshold, "{subset:b} of {holders}, threshold {threshold}");
                // Not even if the scheme is asked to go by fewer.
                if (2..threshold).contains(&count) {
                    assert!(shamir::combine(chosen()).is_none_or(|found| found != key(9)), "{subset:b}");
                }
            }
        }
    }
}

/// One share fewer than restore the key fits every key equally well: for each value that a byte of the key
/// can have, there is exactly one value of the missing share's byte.
#[test]
fn fewer_shares_fit_every_key_equally_well() {
    let (_, shares) = split_of(9, 3, 5, 3);
    let mut seen = BTreeSet::new();
    for guess in 0..=255 {
        let missing = Share { index: 3, threshold: 3, set: shares[0].set, body: Key::from_bytes(&mut [guess; 32]) };
        let found = shamir::combine([&shares[0], &shares[1], &missing].into_iter()).unwrap();
        seen.insert(found.expose_bytes()[0]);
    }
    assert_eq!(seen.len(), 256);
}

/// Coefficients are drawn evenly: every value of a share's byte comes about as often as any other.
#[test]
fn bytes_of_shares_are_spread_evenly() {
    let mut counts = [0_u32; 256];
    for seed in 0..800 {
        for share in split_of(0, 2, 2, seed).1 {
            share.body.expose_bytes().iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        }
    }
    // 51,200 bytes, 200 of each value on average, standard deviation 14.
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!((120..=280).contains(least) && (120..=280).contains(most), "{least} to {most}");
}

#[test]
fn any_wrong_word_and_any_swap_is_refused() {
    let (_, shares) = split_of(0x42, 2, 3, 1);
    let text = words(&shares[0]);
    let right: Vec<&str> = text.split(' ').collect();
    let list: Vec<&str> = include_str!("english.txt").lines().collect();
    for place in 0..WORDS_PER_SHARE {
        // Another word in each place; of each eleven bits, every pattern of wrong bits at some place.
        for wrong in (place..2048).step_by(WORDS_PER_SHARE) {
            let mut words = right.clone();
            words[place] = list[wrong];
            let expected = if words[place] == right[place] { Ok(()) } else { Err(ShareError::Checksum) };
            assert_eq!(Share::from_words(&words.join(" ")).map(drop), expected, "{place} {wrong}");
        }
        for other in place + 1..WORDS_PER_SHARE {
            let mut words = right.clone();
            words.swap(place, other);
            if words[place] != words[other] {
                assert_eq!(Share::from_words(&words.join(" ")), Err(ShareError::Checksum), "{place} {other}");
            }
        }
    }
}

#[test]
fn words_are_read_leniently_and_wrong_ones_named_by_place_only() {
    let (_, shares) = split_of(0x42, 2, 3, 1);
    let text = words(&shares[1]);
    assert_eq!(Share::from_words(&format!("  {}\n", text.to_uppercase().replace(' ', "\n "))), Ok(again(&shares[1])));
    let cut = text.rsplit_once(' ').unwrap().0;
    assert_eq!(Share::from_words(cut), Err(ShareError::Count { found: 31 }));
    assert_eq!(Share::from_words(&format!("{text} zoo")), Err(ShareError::Count { found: 33 }));
    assert_eq!(Share::from_words(""), Err(ShareError::Count { found: 0 }));
    let unknown = format!("{cut} storehouse");
    let error = Share::from_words(&unknown).unwrap_err();
    assert_eq!(error, ShareError::Word { place: 32 });
    assert!(!error.to_string().contains("storehouse"));
    assert!(!format!("{:?}", shares[1]).contains(text.split(' ').nth(20).unwrap()));
}

#[test]
fn a_share_of_another_set_is_named_and_an_altered_one_refused() {
    let (set, shares) = split_of(0x42, 2, 3, 1);
    let (_, others) = split_of(0x42, 2, 3, 2);
    let mut gathering = Gathering::new(&CLUSTER, set.clone());
    let error = gathering.add(again(&others[0])).unwrap_err();
    assert_eq!(error, GatherError::OtherSet { found: others[0].set, wanted: shares[0].set });
    assert!(error.to_string().contains(&hexadecimal(others[0].set)), "{error}");
    // Somebody makes up words with a sound checksum.
    let forged = Share { body: key(1), ..again(&shares[0]) };
    let forged = Share::from_words(&words(&forged)).unwrap();
    assert_eq!(gathering.add(forged).unwrap_err(), GatherError::Altered { index: 1 });
    for (index, threshold) in [(4, 2), (1, 3)] {
        let forged = Share { index, threshold, ..again(&shares[0]) };
        assert_eq!(gathering.add(forged).unwrap_err(), GatherError::Altered { index });
    }
    assert_eq!(gathering.held(), 0);
    // The same share twice counts once; refused ones in between do no harm.
    assert!(matches!(gathering.add(again(&shares[0])), Ok(Gathered::Waiting { held: 1, threshold: 2 })));
    assert!(matches!(gathering.add(again(&shares[0])), Ok(Gathered::Waiting { held: 1, threshold: 2 })));
    assert!(gathering.add(again(&others[1])).is_err());
    assert!(matches!(gathering.add(again(&shares[2])), Ok(Gathered::Key(found)) if found == key(0x42)));
    assert_eq!(gathering.held(), 0);
    // A set that lies about its root key lets no other key out.
    let lying = ShareSet { root_check_value: key(1).check_value(), ..set };
    let fingerprint = lying.fingerprint(&CLUSTER);
    let mut gathering = Gathering::new(&CLUSTER, lying);
    gathering.add(Share { set: fingerprint, ..again(&shares[0]) }).unwrap();
    let error = gathering.add(Share { set: fingerprint, ..again(&shares[1]) }).unwrap_err();
    assert_eq!((error, gathering.held()), (GatherError::OtherKey, 0));
}

#[test]
fn a_set_is_named_by_all_of_it_and_proved_by_the_root_key() {
    let (set, _) = split_of(0x42, 2, 3, 1);
    let mut others = vec![set.clone(); 3];
    others[0].threshold = 3;
    others[1].root_check_value[7] ^= 1;
    others[2].share_check_values[2][0] ^= 1;
    let names: BTreeSet<Fingerprint> = others.iter().chain([&set]).map(|set| set.fingerprint(&CLUSTER)).collect();
    assert_eq!(names.len(), 4);
    assert_ne!(set.fingerprint(&CLUSTER), set.fingerprint(&ClusterId([8; 16])));
    let proof = set.proof(&CLUSTER, &key(0x42));
    assert!(set.is_proved(&CLUSTER, &key(0x42), &proof));
    assert!(!set.is_proved(&CLUSTER, &key(0x42), &proof[1..]));
    assert!(!set.is_proved(&CLUSTER, &key(0x43), &set.proof(&CLUSTER, &key(0x43))));
    assert!(!others[0].is_proved(&CLUSTER, &key(0x42), &proof));
}

#[test]
fn impossible_numbers_are_refused() {
    for (threshold, holders) in [(0, 3), (1, 3), (4, 3), (2, 1), (2, 17), (17, 17), (255, 255)] {
        assert_eq!(split(&key(1), &CLUSTER, threshold, holders, drawn(1)).unwrap_err(), SplitError::Numbers);
    }
    let (set, _) = split_of(1, 2, 2, 1);
    let values: Vec<Bytes> = set.share_check_values.iter().map(|value| Bytes::copy_from_slice(value)).collect();
    assert_eq!(ShareSet::read(2, &set.root_check_value, &values), Some(set.clone()));
    for (threshold, root, values) in [
        (1, &set.root_check_value[..], &values[..]),
        (3, &set.root_check_value, &values),
        (258, &set.root_check_value, &values),
        (2, &set.root_check_value[1..], &values),
        (2, &set.root_check_value, &values[1..]),
    ] {
        assert_eq!(ShareSet::read(threshold, root, values), None);
    }
}

proptest! {
    #[test]
    fn a_key_comes_back_from_its_shares(bytes: [u8; 32], threshold in 2_u8..=6, more in 0_u8..=4, seed: u64) {
        let root = Key::from_bytes(&mut bytes.clone());
        let (set, shares) = split(&root, &CLUSTER, threshold, threshold + more, drawn(seed)).unwrap();
        let mut gathering = Gathering::new(&CLUSTER, set);
        let mut last = None;
        for share in shares.iter().rev().take(usize::from(threshold)) {
            prop_assert_eq!(&Share::from_words(&words(share)), &Ok(again(share)));
            last = Some(gathering.add(Share::from_words(&words(share)).unwrap()).unwrap());
        }
        prop_assert!(matches!(last, Some(Gathered::Key(found)) if found == root));
    }

    #[test]
    fn any_bytes_and_any_text_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..60), text: String) {
        prop_assert!(Share::from_bytes(&bytes).is_err());
        prop_assert!(Share::from_words(&text).is_err());
    }
}
