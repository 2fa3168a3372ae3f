//! Who takes part: two hospitals with physicians, and participants who named both.

use futures_util::{StreamExt, TryStreamExt, stream};
use kura_client::registry::{Application, Facility, Registered, User as RegisteredUser};
use kura_client::{
    ActingClient, Client, Consent, FacilityKind, Method, Participant, ParticipantNumber, Profession, User, now_ms,
};

use super::bodies::DAY_FIRST;
use crate::cli::{Failure, Progress};
use crate::samples::Roster;

/// Physicians at each hospital.
const USERS: usize = 16;
/// Participants who are enrolled at the same time.
const AT_ONCE: usize = 64;
/// The application that a client configuration is for, if it does not say.
const APPLICATION: &str = "application";

/// Everybody.
#[derive(Debug)]
pub(super) struct Population {
    /// Random digits of this run, part of every id, so that runs on one cluster do not meet.
    pub tag: String,
    pub people: Vec<ParticipantNumber>,
    writer: String,
    reader: String,
}

fn user_id(tag: &str, nth: usize) -> String {
    format!("bench-{tag}-user-{}", nth % USERS)
}

/// Has a second registrar confirm what takes two.
async fn confirmed(second: &Client, registered: Registered) -> Result<(), Failure> {
    if let Some(act) = registered.proposed {
        let registry = second.registry();
        registry.confirm(&registry.act(act).await?).await?;
    }
    Ok(())
}

impl Population {
    /// Registers and enrols.
    pub async fn settle(
        clients: &[Client],
        registrars: &[Client; 2],
        participants: usize,
        progress: &Progress,
    ) -> Result<Self, Failure> {
        let tag = format!("{:08x}", rand::random::<u32>());
        let roster = Roster::new(rand::random());
        let first = u64::from(rand::random::<u32>()) * 100_000;
        let people = (0..participants as u64).map(|nth| {
            roster.participant(first + nth).number.parse().map_err(|error| Failure::failed(format!("{error}")))
        });
        let population = Self {
            people: people.collect::<Result<_, _>>()?,
            writer: format!("bench-{tag}-writer"),
            reader: format!("bench-{tag}-reader"),
            tag,
        };
        population.register(clients, registrars).await?;
        population.enrol(clients, progress).await?;
        Ok(population)
    }

    async fn register(&self, clients: &[Client], [registrar, second]: &[Client; 2]) -> Result<(), Failure> {
        let registry = registrar.registry();
        for id in [&self.writer, &self.reader] {
            let facility = Facility::new(id, "Bench", FacilityKind::Hospital);
            confirmed(second, registry.add_facility(&facility).await?).await?;
            for nth in 0..USERS {
                let user = RegisteredUser::new(id, user_id(&self.tag, nth), "Bench", Profession::Physician);
                confirmed(second, registry.add_user(&user).await?).await?;
            }
        }
        let name = clients.first().and_then(|client| client.application()).unwrap_or(APPLICATION);
        let known = registry.applications().await?.into_iter().find(|one| one.name == name);
        // What an application is registered for already stays.
        let facilities = [self.writer.clone(), self.reader.clone()];
        let registered = match known {
            Some(known) => {
                let mut application = Application { participants: true, ..known.clone() };
                application.facilities.extend(facilities);
                registry.change_application(&known, &application).await?
            }
            None => {
                let application = Application { participants: true, ..Application::new(name, facilities) };
                registry.add_application(&application).await?
            }
        };
        confirmed(second, registered).await
    }

    async fn enrol(&self, clients: &[Client], progress: &Progress) -> Result<(), Failure> {
        let mut enrolled = stream::iter(self.people.iter().enumerate())
            .map(|(nth, number)| async move {
                let client = &clients[nth % clients.len()];
                let consent = Consent::signed_on(DAY_FIRST).evidence(format!("bench-{}-{nth}", self.tag));
                self.writer(client, nth).enrol(number, consent).await?;
                let person = client.act(Participant::numbered(*number).authenticated(Method::TwoFactor, now_ms()));
                person.grant(&self.writer).await?;
                person.grant(&self.reader).await?;
                Ok::<_, Failure>(())
            })
            .buffer_unordered(AT_ONCE);
        let mut count = 0;
        while enrolled.try_next().await?.is_some() {
            count += 1;
            progress.say(format!("{count} of {} participants enrolled", self.people.len()));
        }
        Ok(())
    }

    /// Acts for one of those who write.
    pub fn writer(&self, client: &Client, nth: usize) -> ActingClient {
        self.act(client, &self.writer, nth)
    }

    /// Acts for one of those who read, at another facility than the authors'.
    pub fn reader(&self, client: &Client, nth: usize) -> ActingClient {
        self.act(client, &self.reader, nth)
    }

    fn act(&self, client: &Client, facility: &str, nth: usize) -> ActingClient {
        client.act(User::at(facility, user_id(&self.tag, nth)).authenticated(Method::Card, now_ms()))
    }

    /// Any participant, by place.
    pub fn anybody(&self) -> usize {
        rand::random_range(0..self.people.len())
    }
}
