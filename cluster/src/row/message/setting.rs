//! Settings of the network. What is absent has its documented default ([`crate::consent::Settings`]).

use prost::Message;

/// Settings of the network, under the setting `network`.
#[derive(Clone, PartialEq, Message)]
pub struct SettingsRow {
    /// Classes that each profession may see; a profession that is not listed sees none.
    #[prost(message, repeated, tag = "1")]
    pub professions: Vec<ProfessionClasses>,
    /// How long an emergency lasts.
    #[prost(uint64, optional, tag = "2")]
    pub emergency_ms: Option<u64>,
    /// Window of the caps on emergencies.
    #[prost(uint64, optional, tag = "3")]
    pub emergency_window_ms: Option<u64>,
    /// Emergencies that a user may open in a window.
    #[prost(uint32, optional, tag = "4")]
    pub emergency_user_max: Option<u32>,
    /// Emergencies that the users of a facility may open in a window.
    #[prost(uint32, optional, tag = "5")]
    pub emergency_facility_max: Option<u32>,
    /// Emergencies that may be opened through an application in a window.
    #[prost(uint32, optional, tag = "6")]
    pub emergency_application_max: Option<u32>,
    /// Whether a physician opens an emergency only with the registered credential.
    #[prost(bool, optional, tag = "7")]
    pub emergency_credential: Option<bool>,
    /// Longest declared disaster.
    #[prost(uint64, optional, tag = "8")]
    pub disaster_ms_max: Option<u64>,
    /// How long an approved erasure can be stopped.
    #[prost(uint64, optional, tag = "9")]
    pub erasure_grace_ms: Option<u64>,
    /// Participants erased on a day at most.
    #[prost(uint32, optional, tag = "10")]
    pub erasures_day_max: Option<u32>,
    /// How long an act waits for its second registrar.
    #[prost(uint64, optional, tag = "11")]
    pub act_ms: Option<u64>,
    /// Grants that a facility may enter for itself in a window.
    #[prost(uint32, optional, tag = "12")]
    pub own_grants_max: Option<u32>,
    /// Window of that cap.
    #[prost(uint64, optional, tag = "13")]
    pub own_grants_window_ms: Option<u64>,
    /// Whether participants may read their own records.
    #[prost(bool, optional, tag = "14")]
    pub participants_read: Option<bool>,
    /// Whether the participant's list of accesses shows the person's name.
    #[prost(bool, optional, tag = "15")]
    pub accesses_show_person: Option<bool>,
}

/// A profession and the classes that it may see.
#[derive(Clone, PartialEq, Message)]
pub struct ProfessionClasses {
    /// [`crate::word::Profession`].
    #[prost(uint32, tag = "1")]
    pub profession: u32,
    /// [`crate::word::Class`]es.
    #[prost(uint32, repeated, tag = "2")]
    pub classes: Vec<u32>,
}
