//! The network's settings, and the declared disaster.

use std::collections::BTreeMap;
use std::fmt;

use kura_proto::v1;
use serde::Serialize;

use super::act::Field;
use super::{Registered, Registry, unknown};
use crate::client::registry;
use crate::error::{Family, RegistryError, WriteFamily};
use crate::fault::{Failure, Invalid};
use crate::id::RequestId;
use crate::limit;
use crate::receipt::Receipt;
use crate::word::{Class, FacilityKind, Profession};

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)+) => {
        /// The network's settings. Bounds and defaults are the cluster's: docs/consent.md.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        pub struct Settings {
            /// The classes that each profession may see.
            pub professions: BTreeMap<Profession, Vec<Class>>,
            $($(#[$doc])* pub $name: $type,)+
        }

        impl Settings {
            /// The names of all settings but the table of professions.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),+];

            /// Sets one by its name, from text.
            ///
            /// # Errors
            /// [`RegistryError::Invalid`] if there is no such setting, or the text is of another kind.
            pub fn set(&mut self, name: &str, text: &str) -> Result<(), RegistryError> {
                let wrong = |kind: &str| Err(RegistryError::from_invalid(Invalid::because(name, format!("takes {kind}"))));
                match name {
                    $(stringify!($name) => match text.parse() {
                        Ok(value) => self.$name = value,
                        Err(_) if stringify!($type) == "bool" => return wrong("true or false"),
                        Err(_) => return wrong("a whole number, 0 or more"),
                    },)+
                    _ => {
                        let known = Self::NAMES.join(", ");
                        let why = format!("is no setting; there are {known}");
                        return Err(RegistryError::from_invalid(Invalid::because(name, why)));
                    }
                }
                Ok(())
            }

            pub(crate) fn to_wire(&self) -> Result<v1::Settings, Invalid> {
                let classes = |(profession, classes): (&Profession, &Vec<Class>)| v1::ProfessionClasses {
                    profession: profession.number(),
                    classes: classes.iter().map(|class| class.number()).collect(),
                };
                let professions = self.professions.iter().map(classes).collect();
                Ok(v1::Settings { professions, $($name: Some(self.$name)),+ })
            }

            pub(crate) fn from_wire(wire: v1::Settings) -> Result<Self, Failure> {
                let missing = || Failure::broken("settings with one left out");
                let mut professions = BTreeMap::new();
                for v1::ProfessionClasses { profession, classes } in wire.professions {
                    let profession = Profession::from_number(profession).map_err(unknown)?;
                    let classes = classes.into_iter().map(Class::from_number).collect::<Result<Vec<_>, _>>();
                    professions.insert(profession, classes.map_err(unknown)?);
                }
                Ok(Self { professions, $($name: wire.$name.ok_or_else(missing)?),+ })
            }

            /// Each setting and its content, in words for people.
            pub fn fields(&self) -> Vec<Field> {
                let mut fields: Vec<Field> = vec![$((stringify!($name).into(), self.$name.to_string())),+];
                for (profession, classes) in &self.professions {
                    let classes: Vec<&str> = classes.iter().map(|class| class.word()).collect();
                    fields.push((format!("professions.{profession}"), classes.join(", ")));
                }
                fields
            }
        }
    };
}

settings! {
    /// How long an emergency lasts.
    emergency_ms: u64;
    /// Window of the caps on emergencies.
    emergency_window_ms: u64;
    /// Emergencies that a user may open in a window.
    emergency_user_max: u32;
    /// Emergencies that a facility's users may open in a window.
    emergency_facility_max: u32;
    /// Emergencies that may be opened through an application in a window.
    emergency_application_max: u32;
    /// Whether a physician opens an emergency only with the registered credential.
    emergency_credential: bool;
    /// Longest declared disaster.
    disaster_ms_max: u64;
    /// How long an approved erasure can be stopped.
    erasure_grace_ms: u64;
    /// Participants erased on a day at most.
    erasures_day_max: u32;
    /// How long an act waits for its second registrar.
    act_ms: u64;
    /// Grants that a facility may enter for itself in a window.
    own_grants_max: u32;
    /// Window of that cap.
    own_grants_window_ms: u64;
    /// Whether participants may read their own records.
    participants_read: bool;
    /// Whether the participant's list of accesses shows the person's name.
    accesses_show_person: bool;
}

/// A declared disaster: who may open emergencies beyond those who always may, until its end.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Disaster {
    /// Name for people.
    pub name: String,
    /// From when, in milliseconds since 1970-01-01 UTC; 0 when declaring: from the proposal on.
    pub from_ms: u64,
    /// Until when, exclusive.
    pub until_ms: u64,
    /// Professions that may open emergencies beside physicians.
    pub professions: Vec<Profession>,
    /// Kinds of facility that need no flag.
    pub facility_kinds: Vec<FacilityKind>,
    /// Facilities that need no flag.
    pub facilities: Vec<String>,
    /// The caps on emergencies are multiplied by it; 0 and 1: they stay.
    pub caps_factor: u32,
    /// The registrars who proposed and confirmed it; empty when declaring.
    pub declared_by: Vec<String>,
    /// The registrar who ended it early; empty if nobody has.
    pub ended_by: String,
}

impl fmt::Debug for Disaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disaster")
            .field("from_ms", &self.from_ms)
            .field("until_ms", &self.until_ms)
            .finish_non_exhaustive()
    }
}

impl Disaster {
    /// From its proposal until a time, widening nothing yet.
    pub fn until(name: impl Into<String>, until_ms: u64) -> Self {
        Self {
            name: name.into(),
            from_ms: 0,
            until_ms,
            professions: Vec::new(),
            facility_kinds: Vec::new(),
            facilities: Vec::new(),
            caps_factor: 1,
            declared_by: Vec::new(),
            ended_by: String::new(),
        }
    }

    fn to_wire(&self) -> Result<v1::Disaster, Invalid> {
        limit::text("name", &self.name)?;
        self.facilities.iter().try_for_each(|facility| limit::outside_id("facilities", facility))?;
        Ok(v1::Disaster {
            name: self.name.clone(),
            from_ms: self.from_ms,
            until_ms: self.until_ms,
            professions: self.professions.iter().map(|profession| profession.number()).collect(),
            facility_kinds: self.facility_kinds.iter().map(|kind| kind.number()).collect(),
            facilities: self.facilities.clone(),
            caps_factor: self.caps_factor,
            ..v1::Disaster::default()
        })
    }

    pub(crate) fn from_wire(wire: v1::Disaster) -> Result<Self, Failure> {
        let declared_by = [wire.proposed_by, wire.confirmed_by].into_iter().flatten().map(|actor| actor.name);
        let professions = wire.professions.into_iter().map(Profession::from_number).collect::<Result<_, _>>();
        let kinds = wire.facility_kinds.into_iter().map(FacilityKind::from_number).collect::<Result<_, _>>();
        Ok(Self {
            name: wire.name,
            from_ms: wire.from_ms,
            until_ms: wire.until_ms,
            professions: professions.map_err(unknown)?,
            facility_kinds: kinds.map_err(unknown)?,
            facilities: wire.facilities,
            caps_factor: wire.caps_factor,
            declared_by: declared_by.collect(),
            ended_by: wire.ended_by.map(|actor| actor.name).unwrap_or_default(),
        })
    }

    /// Each field and its content, in words for people; times in milliseconds since 1970-01-01 UTC.
    pub fn fields(&self) -> Vec<Field> {
        let professions: Vec<&str> = self.professions.iter().map(|profession| profession.word()).collect();
        let kinds: Vec<&str> = self.facility_kinds.iter().map(|kind| kind.word()).collect();
        vec![
            ("name".into(), self.name.clone()),
            ("from_ms".into(), self.from_ms.to_string()),
            ("until_ms".into(), self.until_ms.to_string()),
            ("professions".into(), professions.join(", ")),
            ("facility_kinds".into(), kinds.join(", ")),
            ("facilities".into(), self.facilities.join(", ")),
            ("caps_factor".into(), self.caps_factor.to_string()),
        ]
    }
}

impl Registry {
    /// The settings, nothing left to a default.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn settings(&self) -> Result<Settings, RegistryError> {
        let shown = self.show().await?;
        let settings = shown.settings.ok_or_else(|| Failure::broken("no settings")).and_then(Settings::from_wire);
        settings.map_err(|failure| RegistryError::from_fault(failure.fault))
    }

    /// The disaster declared last, if ever one was, and whether it is in force.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn disaster(&self) -> Result<Option<(Disaster, bool)>, RegistryError> {
        let shown = self.show().await?;
        let disaster = shown.disaster.map(Disaster::from_wire).transpose();
        let disaster = disaster.map_err(|failure| RegistryError::from_fault(failure.fault))?;
        Ok(disaster.map(|disaster| (disaster, shown.disaster_in_force)))
    }

    async fn show(&self) -> Result<v1::ShowSettingsReply, RegistryError> {
        let attempt = |channel| async move {
            Ok(registry(channel).show_settings(v1::ShowSettingsRequest {}).await?.into_inner())
        };
        self.shared.call(None, attempt).await.map_err(|failed| RegistryError::from_fault(failed.fault))
    }

    /// Proposes a disaster to a second registrar.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] names what is out of its bounds, and the bounds.
    pub async fn declare_disaster(&self, disaster: &Disaster) -> Result<Registered, RegistryError> {
        limit::text("reason", self.reason()).map_err(RegistryError::from_invalid)?;
        let wire = disaster.to_wire().map_err(RegistryError::from_invalid)?;
        let (shared, id) = (&self.shared, RequestId::new());
        let attempt = |channel| {
            let reason = self.reason().to_owned();
            let ask = v1::DeclareDisasterRequest { request: id.wire(), disaster: Some(wire.clone()), reason };
            async move { Registered::from_wire(shared, registry(channel).declare_disaster(ask).await?.into_inner()) }
        };
        shared.call(None, attempt).await.map_err(|failed| RegistryError::from_failed(failed, id))
    }

    /// Ends the declared disaster before its time.
    ///
    /// # Errors
    /// [`RegistryError::Denied`] with the reason `no-disaster`.
    pub async fn end_disaster(&self) -> Result<Receipt, RegistryError> {
        limit::text("reason", self.reason()).map_err(RegistryError::from_invalid)?;
        let (shared, id) = (&self.shared, RequestId::new());
        let attempt = |channel| {
            let ask = v1::EndDisasterRequest { request: id.wire(), reason: self.reason().to_owned() };
            async move { shared.receipt(registry(channel).end_disaster(ask).await?.into_inner()) }
        };
        shared.call(None, attempt).await.map_err(|failed| RegistryError::from_failed(failed, id))
    }
}
