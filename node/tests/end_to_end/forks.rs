//! Two clusters of one id on one timeline, restored from one archive: the second does not start beside the first; and where
//! both run all the same, neither goes on until people have ended one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kura_node::dev::{Layout, Signal};

use super::archive::caught_up;
use super::recovery::Served;
use super::world::{KURA, SOON, World, configure_apart, folder, free_address, quick_segments, until};

fn run(arguments: &[&str]) -> Output {
    Command::new(KURA).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A copy that is restored in a folder of its own, under the first voter's name and certificate.
struct Copy {
    folder: tempfile::TempDir,
    address: String,
}

impl Copy {
    /// `address`: where it serves; a free port of its own, if none is given.
    fn restore(layout: &Layout, address: Option<String>) -> Copy {
        let folder = folder();
        let address = address.unwrap_or_else(free_address);
        configure_apart(layout, folder.path(), &address);
        let copy = Copy { folder, address };
        let (archive, config) = (layout.archive("backup-1").display().to_string(), copy.config());
        let apply = ["restore", "apply", "--from", &archive, "--config", &config];
        let said_so = ["--without-head", "a rehearsal", "--fenced", "all are stopped"];
        let restored = run(&[&apply[..], &said_so].concat());
        assert!(restored.status.success(), "{}", said(&restored));
        copy
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn config(&self) -> String {
        self.path().join("node.toml").display().to_string()
    }

    fn note(&self) -> PathBuf {
        self.path().join("data/forked")
    }

    fn start(&self) -> Served {
        Served::start(self.path(), "node.toml")
    }

    /// Waits until it takes connections.
    async fn serves(&self) {
        until("its port", SOON, async || {
            std::net::TcpStream::connect(&self.address).map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// What it says when it does not start.
    fn refused(&self, more: &[&str]) -> String {
        let config = self.config();
        let ended = run(&[&["serve", "--config", &config][..], more].concat());
        assert_eq!(ended.status.code(), Some(8), "{}", said(&ended));
        said(&ended)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_clusters_on_one_timeline_neither_goes_on_until_people_have_ended_one() {
    let mut world = World::configured(3, 1, quick_segments).await;
    let number = world.enrol(1).await;
    world.put(&number, "kept").await;
    let operations = world.operator.operations();
    caught_up(&world, operations.status().await.unwrap().committed_index).await;
    let layout = world.cluster.layout().clone();
    let first_address = world.member("voter-1").address();
    for member in ["voter-1", "voter-2", "voter-3", "backup-1"] {
        world.cluster.kill(member, Signal::KILL).await.unwrap();
    }
    let first = Copy::restore(&layout, Some(first_address));
    let second = Copy::restore(&layout, None);
    let end = ["--end-former-cluster"];
    let is_ended = ["--other-cluster-is-ended"];

    // The first serves: the second finds it where a former voter was, and does not start, whatever people say.
    let served = first.start();
    first.serves().await;
    for more in [&[][..], &end, &is_ended] {
        let words = second.refused(more);
        assert!(
            words.contains("another cluster of this id is alive, on timeline 1") && words.contains("voter-1"),
            "{words}"
        );
    }
    assert!(!first.note().exists() && !second.note().exists(), "asking ends nobody");
    drop(served);

    // Nobody answers: it starts. Then the first comes back, which is not asked any more. Both stop, and say why.
    let other = second.start();
    second.serves().await;
    let served = first.start();
    assert_eq!((other.ended().await, served.ended().await), (Some(8), Some(8)));
    assert!(first.note().exists() && second.note().exists());
    for copy in [&first, &second] {
        let words = fs::read_to_string(copy.path().join("recovered.txt")).unwrap();
        assert!(words.contains("two clusters of this id are on timeline 1"), "{words}");
        let words = copy.refused(&[]);
        assert!(
            words.contains("--other-cluster-is-ended") && words.contains("Two clusters on one timeline"),
            "{words}"
        );
    }

    // People end the second; the first goes on, also after a further restart. The second does not come back beside it.
    let served = Served::start_with(first.path(), "node.toml", &is_ended);
    first.serves().await;
    assert!(!first.note().exists());
    let words = second.refused(&is_ended);
    assert!(words.contains("another cluster of this id is alive"), "{words}");
    drop(served);
    let _served = first.start();
    first.serves().await;
}
