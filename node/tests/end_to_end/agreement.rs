//! Members compare their states by signed heads at equal indexes, and name the one that differs.

use kura_client::wire;
use kura_cluster::digest::Digest;
use kura_cluster::row::Table;
use kura_node::dev::{ClientFile, Signal};
use kura_node::state::Database;
use kura_node::state::database::Progress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::world::{SOON, World, until};

const EQUAL: u32 = 1;
const DIFFERENT: u32 = 2;

/// A gauge of a node's metrics endpoint.
pub async fn gauge(world: &World, node: &str, name: &str) -> Result<f64, String> {
    let text = async {
        let mut stream = TcpStream::connect(world.member(node).metrics_address()).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    let text = text.await.map_err(|error| error.to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).ok_or("no such gauge")?;
    line.trim().parse().map_err(|_| format!("{name} is {line}"))
}

/// How the others stand to a member, as it sees it.
async fn seen_by(world: &World, node: &str) -> Result<Vec<wire::MemberStatus>, String> {
    let operator = world.cluster.client_at(ClientFile::Operator, node).await.map_err(|error| error.to_string())?;
    let status = operator.operations().status_of(node).await.map_err(|error| error.to_string())?;
    Ok(status.members.into_iter().filter(|member| member.name != node).collect())
}

async fn all_equal(world: &World, node: &str) {
    until("equal signed heads", SOON, async || {
        let others = seen_by(world, node).await?;
        match others.iter().find(|other| other.agreement != EQUAL || other.agreement_index == 0) {
            None if others.is_empty() => Err("there is nobody else".into()),
            None => Ok(()),
            Some(other) => Err(format!("{} is {} at {}", other.name, other.agreement, other.agreement_index)),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_state_differs_is_named_and_the_others_stay_equal() {
    let mut world = World::start(3, 1).await;
    let number = world.enrol(1).await;
    world.put(&number, "the same everywhere").await;
    for node in ["voter-1", "voter-2", "voter-3", "backup-1"] {
        all_equal(&world, node).await;
    }
    let equal = gauge(&world, "backup-1", "kura_members_equal").await;
    assert_eq!((equal, gauge(&world, "backup-1", "kura_members_different").await), (Ok(3.0), Ok(0.0)));

    // As a fault would have left it: what the member says of its blocks is not what the log made.
    let leader = world.leader().await;
    let wrong = world.voters().into_iter().find(|name| *name != leader).unwrap();
    world.cluster.kill(&wrong, Signal::TERM).await.unwrap();
    let state = world.cluster.layout().node_data(&wrong).join("state");
    let current = std::fs::read_to_string(state.join("CURRENT")).unwrap();
    let database = until("a closed database", SOON, async || {
        Database::open(&state.join(current.trim())).map_err(|error| error.to_string())
    })
    .await;
    let (applied, _, mut summary) = database.progress().unwrap();
    summary.tables[Table::Block.place()].digest.add(Digest::from_bytes([1; 32]));
    let nothing = std::collections::HashMap::new();
    database.write(nothing.iter(), &Progress { applied, membership: None, summary: &summary }).unwrap();
    database.flush().unwrap();
    drop(database);
    world.cluster.restart(&wrong).await.unwrap();

    let difference = until("the difference", SOON, async || {
        let others = seen_by(&world, &leader).await?;
        let found = others.iter().find(|other| other.agreement == DIFFERENT).cloned();
        found.ok_or_else(|| format!("{:?}", others.iter().map(|other| other.agreement).collect::<Vec<_>>()))
    })
    .await;
    assert_eq!((&difference.name, &difference.different_tables[..]), (&wrong, &["block".to_owned()][..]));
    // The wrong one finds all others different, each of them only the wrong one.
    until("what the wrong one sees", SOON, async || match gauge(&world, &wrong, "kura_members_different").await? {
        3.0 => Ok(()),
        other => Err(format!("{other} differ")),
    })
    .await;
    until("what the leader sees", SOON, async || {
        let counted = (
            gauge(&world, &leader, "kura_members_equal").await?,
            gauge(&world, &leader, "kura_members_different").await?,
            gauge(&world, &leader, "kura_trouble").await?,
        );
        if counted == (2.0, 1.0, 1.0) { Ok(()) } else { Err(format!("{counted:?}")) }
    })
    .await;
    let log = std::fs::read_to_string(world.cluster.layout().node_log(&leader)).unwrap();
    assert!(log.contains("are not the same at the same log index"), "the log does not say it");
}
