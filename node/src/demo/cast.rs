//! Who takes part in the demo: facilities, users, applications, participants.

use kura_client::registry::{Application, Facility, Registered, User as RegisteredUser};
use kura_client::{
    AccessLine, ActingClient, Client, Consent, Date, FacilityKind, Method, Participant, ParticipantNumber, Person,
    Profession, RegistryError, User, now_ms,
};

use super::report::Report;
use super::words::Words;
use crate::cli::Failure;
use crate::dev::{ClientFile, Cluster};
use crate::samples::{self, CLINICAL_DAY_FIRST, Roster};

/// Writes most records.
pub(super) const HOSPITAL: usize = 0;
/// Writes and reads records.
pub(super) const CLINIC: usize = 1;
/// Writes dispensings.
pub(super) const PHARMACY: usize = 2;
/// Writes care records; reaches the network over SSL-VPN.
pub(super) const CARE: usize = 3;
/// A clinic that no participant names at first.
pub(super) const OUTSIDER: usize = 4;

const KINDS: [(&str, FacilityKind, AccessLine); 5] = [
    ("hospital", FacilityKind::Hospital, AccessLine::IpVpn),
    ("clinic", FacilityKind::Clinic, AccessLine::IpVpn),
    ("pharmacy", FacilityKind::Pharmacy, AccessLine::IpVpn),
    ("care", FacilityKind::Care, AccessLine::SslVpn),
    ("clinic", FacilityKind::Clinic, AccessLine::IpVpn),
];

/// How many participants are enrolled.
const PARTICIPANTS: u64 = 8;

/// How far the roster is searched for a kind of facility: its kinds repeat every 20.
const ROSTER_SPAN: u64 = 40;

/// A facility and its users.
#[derive(Debug)]
pub(super) struct Place {
    /// As the roster has it, but with an id of this run.
    pub sample: samples::Facility,
    pub kind: FacilityKind,
    pub line: AccessLine,
    /// Someone who writes records there.
    pub author: Staff,
    /// Someone at the desk.
    pub clerk: Staff,
}

/// Someone who works at a facility.
#[derive(Debug)]
pub(super) struct Staff {
    pub id: String,
    name: String,
    profession: Profession,
}

/// A participant.
#[derive(Debug)]
pub(super) struct Enrolled {
    /// The index in the roster, from which records about them are made.
    pub index: u64,
    pub number: ParticipantNumber,
    /// The hospital's own id of them.
    local_id: String,
    evidence: String,
}

/// Everybody.
#[derive(Debug)]
pub(super) struct Cast {
    pub seed: u64,
    /// Random digits of this run, part of every id.
    pub tag: String,
    pub places: Vec<Place>,
    pub people: Vec<Enrolled>,
    consent_day: Date,
}

impl Cast {
    /// The cast of a seed. Consents are old if the records are: a folder's may be of any date.
    pub fn new(seed: u64, any_date: bool) -> Self {
        let roster = Roster::new(seed);
        // Ids must not repeat between runs of one seed on one directory.
        let tag = format!("{:08x}", rand::random::<u32>());
        let mut first = 0;
        let mut places = Vec::new();
        for (place, (word, kind, line)) in KINDS.into_iter().enumerate() {
            let found =
                (first..first + ROSTER_SPAN).map(|index| roster.facility(index)).find(|one| one.kind_word == word);
            // Every kind is among the first twenty.
            let Some(mut sample) = found else { continue };
            // The second clinic must be another one.
            first = if word == "clinic" { sample.index + 1 } else { first };
            sample.id = format!("{word}-{tag}-{place}");
            let staff = |index, number| {
                let user = roster.user(&sample, index);
                Staff {
                    id: format!("user-{tag}-{place}{number}"),
                    name: user.name(),
                    profession: user.profession_word.parse().unwrap_or(Profession::Physician),
                }
            };
            let clerk = (0..8).find(|index| roster.user(&sample, *index).profession_word == "clerk").unwrap_or(0);
            let (author, clerk) = (staff(0, 1), staff(clerk, 2));
            places.push(Place { sample, kind, line, author, clerk });
        }
        let base = rand::random::<u32>();
        let people = (0..PARTICIPANTS).filter_map(|nth| {
            let index = u64::from(base) * PARTICIPANTS + nth;
            Some(Enrolled {
                index,
                number: roster.participant(index).number.parse().ok()?,
                local_id: format!("MRN-{tag}-{nth:03}"),
                evidence: format!("form-{tag}-{nth:03}"),
            })
        });
        let consent_day = if any_date { Date::from_days(-25_567) } else { Date::from_days(CLINICAL_DAY_FIRST) };
        let people = people.collect();
        Self { seed, tag, places, people, consent_day }
    }

    /// Facilities that every participant names.
    pub fn granted(&self) -> impl Iterator<Item = &Place> {
        self.places[..OUTSIDER].iter()
    }
}

/// The connections.
#[derive(Debug)]
pub(super) struct Clients {
    pub application: Client,
    pub ssl: Client,
    registrars: [Client; 2],
}

impl Clients {
    pub async fn connect(cluster: &Cluster) -> Result<Self, Failure> {
        Ok(Self {
            application: cluster.client(ClientFile::Application).await?,
            ssl: cluster.client(ClientFile::ApplicationSsl).await?,
            registrars: [cluster.client(ClientFile::Registrar1).await?, cluster.client(ClientFile::Registrar2).await?],
        })
    }

    /// Acts for a facility's author, over the facility's line.
    pub fn author(&self, place: &Place) -> ActingClient {
        let client = if place.line == AccessLine::SslVpn { &self.ssl } else { &self.application };
        author_through(client, place)
    }

    fn clerk(&self, place: &Place) -> ActingClient {
        self.application.act(User::at(&place.sample.id, &place.clerk.id).authenticated(Method::TwoFactor, now_ms()))
    }

    /// Acts for a participant.
    pub fn person(&self, one: &Enrolled) -> Person {
        self.application.act(Participant::numbered(one.number).authenticated(Method::TwoFactor, now_ms()))
    }
}

/// Acts for a facility's author through a connection.
pub(super) fn author_through(client: &Client, place: &Place) -> ActingClient {
    client.act(User::at(&place.sample.id, &place.author.id).authenticated(Method::Card, now_ms()))
}

fn done(registered: Registered) -> Result<(), Failure> {
    registered.done().map(|_| ()).map_err(|_| Failure::failed("what one registrar may do took two"))
}

/// Registers facilities and users as a registrar, applications as two.
pub(super) async fn register(
    clients: &Clients,
    cast: &Cast,
    words: &mut Words,
    report: &mut Report,
) -> Result<(), Failure> {
    report.begin("registry");
    let [registry, second] = [clients.registrars[0].registry(), clients.registrars[1].registry()];
    for place in &cast.places {
        let mut facility = Facility::new(&place.sample.id, &place.sample.name, place.kind);
        facility.access_line = place.line;
        facility.institution_code = place.sample.institution_number.clone();
        done(registry.add_facility(&facility).await?)?;
        words.add("facility id", &facility.id);
        words.add("facility name", &facility.name);
        words.add("institution number", &facility.institution_code);
        for staff in [&place.author, &place.clerk] {
            let user = RegisteredUser::new(&place.sample.id, &staff.id, &staff.name, staff.profession);
            done(registry.add_user(&user).await?)?;
            words.add("user id", &staff.id);
            words.add("user name", &staff.name);
        }
    }
    for (name, line) in [("application", AccessLine::IpVpn), ("application-ssl", AccessLine::SslVpn)] {
        let over = cast.places.iter().filter(|place| place.line == line).map(|place| place.sample.id.clone());
        let mut application = Application::new(name, over);
        application.access_line = line;
        application.participants = line == AccessLine::IpVpn;
        let Some(act) = registry.add_application(&application).await?.proposed else {
            return Err(Failure::failed("one registrar alone registered an application"));
        };
        // Who proposed it cannot confirm it.
        let proposed = second.act(act).await?;
        if !matches!(registry.confirm(&proposed).await, Err(RegistryError::Denied(_))) {
            return Err(Failure::failed("one registrar alone confirmed an application"));
        }
        second.confirm(&proposed).await?;
    }
    let registered = registry.facilities().await?;
    let missing = cast.places.iter().filter(|place| !registered.iter().any(|one| one.id == place.sample.id)).count();
    if missing > 0 {
        return Err(Failure::failed(format!("{missing} facilities are registered but not listed")));
    }
    let (facilities, users) = (cast.places.len(), cast.places.len() * 2);
    report.done(
        "a registrar registers facilities and users; two register applications (one on IP-VPN, one on SSL-VPN)",
        format!("{facilities} facilities, {users} users, 2 applications"),
    );
    Ok(())
}

/// Enrols the participants, links the hospital's ids, and has them name their facilities.
pub(super) async fn enrol(
    clients: &Clients,
    cast: &Cast,
    words: &mut Words,
    report: &mut Report,
) -> Result<(), Failure> {
    report.begin("participants");
    let clerk = clients.clerk(&cast.places[HOSPITAL]);
    let mut grants = 0;
    for one in &cast.people {
        clerk.enrol(&one.number, Consent::signed_on(cast.consent_day).evidence(&one.evidence)).await?;
        clerk.link(&one.number, &one.local_id).await?;
        if clerk.resolve(&one.local_id).await? != one.number {
            return Err(Failure::failed("a facility's own id leads to another participant"));
        }
        let person = clients.person(one);
        for place in cast.granted() {
            person.grant(&place.sample.id).await?;
            grants += 1;
        }
        words.add("participant number", one.number.reveal());
        words.add("local id", &one.local_id);
        words.add("reference to evidence", &one.evidence);
    }
    report.done(
        "enrolled on a signed consent, linked to the hospital's own ids; each names the facilities that may see",
        format!("{} participants, {grants} grants", cast.people.len()),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cast_is_complete_and_its_ids_are_long_and_distinct() {
        for seed in 0..50 {
            let cast = Cast::new(seed, false);
            assert_eq!((cast.places.len(), cast.people.len()), (5, 8));
            let kinds: Vec<&str> = cast.places.iter().map(|place| place.sample.kind_word).collect();
            assert_eq!(kinds, ["hospital", "clinic", "pharmacy", "care", "clinic"]);
            assert_ne!(cast.places[CLINIC].sample.index, cast.places[OUTSIDER].sample.index);
            assert_eq!(cast.places[HOSPITAL].author.profession, Profession::Physician);
            assert_eq!(cast.places[OUTSIDER].author.profession, Profession::Physician);
            assert_eq!(cast.places[HOSPITAL].clerk.profession, Profession::Clerk);
            for place in &cast.places {
                assert!(place.sample.id.len() >= 8 && place.author.id != place.clerk.id);
            }
        }
    }
}
