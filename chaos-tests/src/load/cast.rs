//! Who takes part in a run: facilities, users, an application, participants.

use kura_client::registry::{Application, Facility, User as RegisteredUser};
use kura_client::{
    ActingClient, Client, Consent, Date, FacilityKind, Method, Participant, ParticipantNumber, Person, Profession,
    User, now_ms,
};
use rand::RngExt;
use tokio::task::JoinSet;

use super::LoadError;
use crate::seed::generator;

/// Writes and reads; named by every participant, never taken back.
pub const HOME: &str = "home";

/// Read; named and taken back all the time.
pub const VISITORS: [&str; 2] = ["visitor-1", "visitor-2"];

/// The name of the application: that of the certificate.
const APPLICATION: &str = "application";

/// Participants that are enrolled at a time.
const AT_ONCE: usize = 6;

const AUTHOR: &str = "author";
const CLERK: &str = "clerk";

/// Everybody. Facilities' labels are their ids; participants have labels, `p00` and on.
#[derive(Debug)]
pub struct Cast {
    numbers: Vec<ParticipantNumber>,
}

impl Cast {
    /// So many participants with numbers of the seed.
    ///
    /// # Errors
    /// [`LoadError::Setup`] if a number could not be made.
    pub fn new(seed: u64, participants: usize) -> Result<Self, LoadError> {
        let mut random = generator(seed, "numbers");
        let base = random.random_range(0..10_u64.pow(12));
        let numbers = (0..participants).map(|nth| format!("{:016}", base * 1_000 + nth as u64).parse());
        let numbers = numbers.collect::<Result<_, _>>().map_err(|error| LoadError::setup("a number", error))?;
        Ok(Self { numbers })
    }

    /// How many participants there are.
    pub fn participants(&self) -> usize {
        self.numbers.len()
    }

    /// A participant's label.
    pub fn label(place: usize) -> String {
        format!("p{place:02}")
    }

    /// The label of a number, if it takes part.
    pub fn label_of(&self, number: &ParticipantNumber) -> Option<String> {
        self.numbers.iter().position(|known| known == number).map(Self::label)
    }

    /// A participant's number.
    pub fn number(&self, place: usize) -> &ParticipantNumber {
        &self.numbers[place]
    }

    /// Acts for a participant.
    pub fn person(&self, client: &Client, place: usize) -> Person {
        client.act(Participant::numbered(self.numbers[place]).authenticated(Method::TwoFactor, now_ms()))
    }

    /// Registers everybody and has each participant enrolled and name all facilities.
    ///
    /// # Errors
    /// [`LoadError::Setup`].
    pub async fn register(
        &self,
        [registrar, second]: [&Client; 2],
        application: &Client,
        signed_on: Date,
    ) -> Result<(), LoadError> {
        let (registry, second) = (registrar.registry(), second.registry());
        let kinds =
            [(HOME, FacilityKind::Hospital), (VISITORS[0], FacilityKind::Clinic), (VISITORS[1], FacilityKind::Clinic)];
        for (id, kind) in kinds {
            let put = registry.add_facility(&Facility::new(id, id, kind)).await;
            let _ = put.map_err(|error| LoadError::setup("a facility", error))?;
            for (user, profession) in [(AUTHOR, Profession::Physician), (CLERK, Profession::Clerk)] {
                let put = registry.add_user(&RegisteredUser::new(id, user, user, profession)).await;
                let _ = put.map_err(|error| LoadError::setup("a user", error))?;
            }
        }
        let mut registered = Application::new(APPLICATION, kinds.map(|(id, _)| id));
        registered.participants = true;
        let put = registry.add_application(&registered).await;
        let put = put.map_err(|error| LoadError::setup("the application", error))?;
        if let Some(act) = put.proposed {
            let act = second.act(act).await.map_err(|error| LoadError::setup("the application's act", error))?;
            second.confirm(&act).await.map_err(|error| LoadError::setup("the application's confirmation", error))?;
        }
        let mut enrolments = JoinSet::new();
        for at_once in 0..AT_ONCE {
            let numbers: Vec<_> = self.numbers.iter().copied().skip(at_once).step_by(AT_ONCE).collect();
            enrolments.spawn(enrol(application.clone(), numbers, signed_on));
        }
        while let Some(enrolled) = enrolments.join_next().await {
            enrolled??;
        }
        Ok(())
    }
}

/// Enrols participants one after the other and has each name all facilities.
async fn enrol(application: Client, numbers: Vec<ParticipantNumber>, signed_on: Date) -> Result<(), LoadError> {
    let clerk = application.act(User::at(HOME, CLERK).authenticated(Method::TwoFactor, now_ms()));
    for number in numbers {
        let enrolled = clerk.enrol(&number, Consent::signed_on(signed_on).evidence("form")).await;
        enrolled.map_err(|error| LoadError::setup("an enrolment", error))?;
        for id in [HOME].iter().chain(&VISITORS) {
            let person = application.act(Participant::numbered(number).authenticated(Method::TwoFactor, now_ms()));
            person.grant(*id).await.map_err(|error| LoadError::setup("a grant", error))?;
        }
    }
    Ok(())
}

/// Acts for a facility's physician.
pub fn physician(client: &Client, facility: &str) -> ActingClient {
    client.act(User::at(facility, AUTHOR).authenticated(Method::Card, now_ms()))
}
