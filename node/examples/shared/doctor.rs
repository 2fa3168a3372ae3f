//! A physician at a facility of a new cluster, for the examples that measure.

use kura_client::registry::{Application, Facility, User as RegisteredUser};
use kura_client::{ActingClient, FacilityKind, Method, Profession, User, now_ms};
use kura_node::dev::{ClientFile, Cluster};

/// Registers the facility F1, its physician u1 and the application; answers who acts for the physician.
pub async fn doctor(cluster: &Cluster) -> Result<ActingClient, Box<dyn std::error::Error>> {
    let registry = cluster.client(ClientFile::Registrar1).await?.registry();
    let _ = registry.add_facility(&Facility::new("F1", "hospital", FacilityKind::Hospital)).await?;
    let _ = registry.add_user(&RegisteredUser::new("F1", "u1", "doctor", Profession::Physician)).await?;
    if let Some(act) = registry.add_application(&Application::new("application", ["F1"])).await?.proposed {
        let second = cluster.client(ClientFile::Registrar2).await?.registry();
        second.confirm(&second.act(act).await?).await?;
    }
    let application = cluster.client(ClientFile::Application).await?;
    Ok(application.act(User::at("F1", "u1").authenticated(Method::Card, now_ms())))
}
