//! Proxies between a client and the voters, which count bytes and see which voter is in use.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kura_client::{Client, Endpoint};
use kura_node::dev::{ClientFile, Cluster};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Bytes of one voter's connections, TLS and all.
#[derive(Debug, Default)]
struct Count {
    to_node: AtomicU64,
    to_client: AtomicU64,
}

/// One proxy before each voter.
pub struct Proxies {
    names: Vec<String>,
    counts: Vec<Arc<Count>>,
    tasks: Vec<JoinHandle<()>>,
    pub client: Client,
}

impl Drop for Proxies {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Sums since a moment.
#[derive(Debug, Clone, Copy)]
pub struct Sums {
    pub to_nodes: u64,
    pub to_client: u64,
}

impl Proxies {
    /// Before every voter, and the application behind them.
    pub async fn start(cluster: &Cluster) -> Self {
        let mut config = cluster.client_config(ClientFile::Application).unwrap();
        let (mut names, mut counts, mut tasks, mut endpoints) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for voter in cluster.plan().voters() {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let count = Arc::new(Count::default());
            tasks.push(tokio::spawn(accept(listener, voter.address(), Arc::clone(&count))));
            endpoints.push(Endpoint { name: voter.name.clone(), address });
            names.push(voter.name.clone());
            counts.push(count);
        }
        config.endpoints = endpoints;
        let client = Client::connect(config).await.unwrap();
        Self { names, counts, tasks, client }
    }

    /// Bytes of all voters so far.
    pub fn sums(&self) -> Sums {
        let sum =
            |of: fn(&Count) -> &AtomicU64| self.counts.iter().map(|count| of(count).load(Ordering::Relaxed)).sum();
        Sums { to_nodes: sum(|count| &count.to_node), to_client: sum(|count| &count.to_client) }
    }

    /// The voter that the client has exchanged most with.
    pub fn in_use(&self) -> String {
        let bytes = |count: &Count| count.to_node.load(Ordering::Relaxed) + count.to_client.load(Ordering::Relaxed);
        let most = (0..self.names.len()).max_by_key(|place| bytes(&self.counts[*place])).unwrap();
        self.names[most].clone()
    }
}

async fn accept(listener: TcpListener, node: String, count: Arc<Count>) {
    while let Ok((client, _)) = listener.accept().await {
        // A node that does not answer: the client's connection is closed.
        let Ok(server) = TcpStream::connect(&node).await else { continue };
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        let (up, down) = (Arc::clone(&count), Arc::clone(&count));
        tokio::spawn(async move {
            // Either end of a connection ends it whole, as a killed process does.
            tokio::select! {
                _ = copy(client_read, server_write, &up.to_node) => {}
                _ = copy(server_read, client_write, &down.to_client) => {}
            }
        });
    }
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    count: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        count.fetch_add(length as u64, Ordering::Relaxed);
        to.write_all(&buffer[..length]).await?;
    }
}
