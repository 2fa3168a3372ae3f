//! One client of the load: what it does next, drawn from the seed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kura_client::RequestId;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::cast::{HOME, VISITORS};
use super::session::{Draft, Patience, Session};
use super::{Mode, PACE_MS, Scale};
use crate::content;
use crate::history::Outcome;
use crate::seed::generator;

/// How long a client tries to learn what is unknown before it rests. It asks as somebody who must know: limits shorter
/// than what a busy machine needs for an answer would leave all of it unknown.
const RESOLVE: Duration = Duration::from_secs(120);

/// The pause after a question that was not answered.
const RESOLVE_PAUSE: Duration = Duration::from_millis(200);

/// Every so many documents are bulky while the load is heavy: what is done, and to whom, stays as the seed has it.
const BULKY_EVERY: u64 = 2;

/// Drafts that are remembered, to be written again under their document ids.
const REMEMBERED: usize = 8;

/// What a client does besides large writes, with its share.
const SHARES: [(Deed, u32); 7] = [
    (Deed::PutDocument, 37),
    (Deed::PutPlain, 11),
    (Deed::PutAgain, 6),
    (Deed::Get, 31),
    (Deed::List, 2),
    (Deed::Consent, 8),
    (Deed::Resolve, 5),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    PutDocument,
    PutPlain,
    PutAgain,
    Get,
    List,
    Consent,
    Resolve,
}

fn deed(draw: u32) -> Deed {
    let mut passed = 0;
    for (deed, share) in SHARES {
        passed += share;
        if draw < passed {
            return deed;
        }
    }
    Deed::Get
}

/// A write whose outcome is not known.
#[derive(Debug, Clone, Copy)]
struct Open {
    place: usize,
    request: RequestId,
    /// Of a consent: the facility, and whether it is named.
    consent: Option<(&'static str, bool)>,
}

/// A client.
pub(super) struct LoadClient {
    session: Session,
    seed: u64,
    scale: Scale,
    nth: usize,
    random: StdRng,
    owned: Vec<usize>,
    drafts: u64,
    remembered: VecDeque<Draft>,
    open: VecDeque<Open>,
    /// Who is named now, of those whose consents this client changes; absent: named, as at the beginning.
    named: BTreeMap<(usize, &'static str), bool>,
}

impl LoadClient {
    /// One of the clients of a scale.
    pub(super) fn new(session: Session, seed: u64, nth: usize, scale: Scale) -> Self {
        let random = generator(seed, session.name());
        let owned = (0..scale.participants).filter(|place| place % scale.clients == nth).collect();
        Self {
            session,
            seed,
            scale,
            nth,
            random,
            owned,
            drafts: 0,
            remembered: VecDeque::new(),
            open: VecDeque::new(),
            named: BTreeMap::new(),
        }
    }

    /// Works until it is told to stop.
    pub(super) async fn run(mut self, mut modes: watch::Receiver<Mode>, resting: Arc<watch::Sender<usize>>) {
        loop {
            let mode = *modes.borrow_and_update();
            match mode {
                Mode::Run => self.turn().await,
                Mode::Stop => return,
                Mode::Pause => {
                    self.resolve_all().await;
                    resting.send_modify(|count| *count += 1);
                    let ended = modes.wait_for(|mode| *mode != Mode::Pause).await.is_err();
                    resting.send_modify(|count| *count -= 1);
                    if ended {
                        return;
                    }
                }
            }
        }
    }

    async fn turn(&mut self) {
        let large = self.random.random_ratio(self.scale.large, 1_000);
        match deed(self.random.random_range(0..100)) {
            _ if large => self.put_new(true, true).await,
            Deed::PutDocument => self.put_new(true, false).await,
            Deed::PutPlain => self.put_new(false, false).await,
            Deed::PutAgain => self.put_again().await,
            Deed::Get => self.get().await,
            Deed::List => self.list().await,
            Deed::Consent => self.consent().await,
            Deed::Resolve => drop(self.resolve_first().await),
        }
        sleep(Duration::from_millis(self.random.random_range(PACE_MS..=self.scale.pace_ms))).await;
    }

    /// A participant of the client's group.
    fn draw(&mut self) -> usize {
        let groups = self.scale.groups;
        let nth = self.random.random_range(0..self.scale.participants / groups);
        nth * groups + self.nth % groups
    }

    /// Whether there may be one more operation that deals with a participant.
    fn may(&self, place: usize) -> bool {
        self.session.shared().deals(place, self.scale.each_max)
    }

    async fn list(&mut self) {
        let place = self.draw();
        if self.may(place) {
            self.session.list(place).await;
        }
    }

    async fn put_new(&mut self, named: bool, large: bool) {
        self.drafts += 1;
        let (client, number) = (self.session.name(), self.drafts);
        let bulky = named && number.is_multiple_of(BULKY_EVERY) && self.session.shared().is_heavy();
        let body = match (large, bulky) {
            (true, _) => content::large,
            (false, true) => content::bulky,
            (false, false) => content::small,
        };
        let body = body(self.seed, client, number);
        let document = named.then(|| format!("{client}-{number}"));
        let draft = Draft { body, document, place: self.draw() };
        // Drawn before anything is known, so that answers do not change what is drawn later.
        let at_once = self.random.random_ratio(1, 2);
        let unknown = self.put(&draft).await;
        if named && unknown && at_once {
            // As an application would that lost its memory and knows only its document id.
            self.put(&draft).await;
        }
        if named && !large {
            self.remembered.truncate(REMEMBERED - 1);
            self.remembered.push_front(draft);
        }
    }

    async fn put_again(&mut self) {
        let which = self.random.random_range(0..REMEMBERED);
        if let Some(draft) = self.remembered.get(which).cloned() {
            self.put(&draft).await;
        }
    }

    /// Whether the outcome is unknown.
    async fn put(&mut self, draft: &Draft) -> bool {
        if !self.may(draft.place) {
            return false;
        }
        let (request, outcome) = self.session.put(draft).await;
        let unknown = matches!(outcome, Outcome::Unknown { .. });
        if unknown {
            self.open.push_back(Open { place: draft.place, request, consent: None });
        }
        unknown
    }

    async fn get(&mut self) {
        let draw: f64 = self.random.random();
        let facility = [HOME, VISITORS[0], VISITORS[1]][self.random.random_range(0..3)];
        let known = {
            let all = &self.session.shared().known().list;
            // Squared from the end: recent records more often.
            let back = (draw * draw * all.len() as f64) as usize;
            let until = all.len().saturating_sub(back);
            let groups = self.scale.groups;
            all[..until].iter().rev().find(|known| known.place % groups == self.nth % groups).copied()
        };
        if let Some(known) = known.filter(|known| self.may(known.place)) {
            self.session.get(known.place, known.record, facility).await;
        }
    }

    async fn consent(&mut self) {
        let place = self.owned[self.random.random_range(0..self.owned.len())];
        let facility = VISITORS[self.random.random_range(0..VISITORS.len())];
        let open = |open: &Open| open.place == place && open.consent.is_some_and(|(named, _)| named == facility);
        if let Some(at) = self.open.iter().position(open)
            && !self.resolve(at, Patience::Own).await
        {
            return;
        }
        if !self.may(place) {
            return;
        }
        let grant = !self.named.get(&(place, facility)).copied().unwrap_or(true);
        let (request, outcome) = self.session.consent(place, facility, grant).await;
        match outcome {
            Outcome::Committed(_) => drop(self.named.insert((place, facility), grant)),
            Outcome::Unknown { .. } => {
                self.open.push_back(Open { place, request, consent: Some((facility, grant)) });
            }
            _ => {}
        }
    }

    async fn resolve_first(&mut self) -> bool {
        self.open.is_empty() || self.resolve(0, Patience::Own).await
    }

    /// Asks what became of an open write; whether it is known now.
    async fn resolve(&mut self, at: usize, patience: Patience) -> bool {
        let Some(open) = self.open.get(at).copied() else { return true };
        let facility = open.consent.map_or(HOME, |(facility, _)| facility);
        let outcome = self.session.resolve(open.place, facility, open.request, patience).await;
        let known = matches!(outcome, Outcome::Committed(_) | Outcome::Absent | Outcome::Forgotten);
        if known {
            self.open.remove(at);
        }
        if let (Outcome::Committed(_), Some((facility, grant))) = (outcome, open.consent) {
            self.named.insert((open.place, facility), grant);
        }
        known
    }

    /// Resolves all; what stays open the checker will find.
    async fn resolve_all(&mut self) {
        let end = Instant::now() + RESOLVE;
        while !self.open.is_empty() && Instant::now() < end {
            if !self.resolve(0, Patience::Must).await {
                sleep(RESOLVE_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_make_up_a_hundred_and_every_deed_is_drawn() {
        assert_eq!(SHARES.iter().map(|(_, share)| share).sum::<u32>(), 100);
        for (wanted, share) in SHARES {
            assert_eq!((0..100).filter(|draw| deed(*draw) == wanted).count() as u32, share);
        }
    }
}
