//! The link between the prefecture and the backup: a TCP proxy that delays, limits, and can stand still.
//!
//! Voters reach the backup at the proxy's address alone. What the proxy forwards it does not understand: it is TLS.
//!
//! Invariants
//! - Each direction has one budget of bytes, whatever the number of connections; what is not yet paid for is not
//!   read, so that senders feel the limit.
//! - Bytes stay in order; none is dropped while both ends live.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 8 * 1024;
/// Chunks of one connection that are on their way.
const UNDER_WAY_MAX: usize = 64;
/// How far the budget may be spent in advance.
const ADVANCE: Duration = Duration::from_millis(200);

/// How the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quality {
    /// How long a byte is under way.
    pub delay: Duration,
    /// Bytes that pass in a second, in each direction; 0: no limit.
    pub bytes_each_second: u64,
    /// Whether anything passes.
    pub open: bool,
}

impl Quality {
    /// As if there were none.
    pub const NEAR: Self = Self { delay: Duration::ZERO, bytes_each_second: 0, open: true };
}

/// The link. Dropping it cuts it.
pub struct Link {
    quality: watch::Sender<Quality>,
    passed: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// Listens at an address for whoever calls another.
    ///
    /// # Errors
    /// What the system says.
    pub async fn open(listen: &str, to: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let (quality, seen) = watch::channel(Quality::NEAR);
        let passed = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept(listener, to.to_owned(), seen, Arc::clone(&passed)));
        Ok(Self { quality, passed, task })
    }

    /// From now on it is so; what is under way is delivered as it was meant to be, unless nothing passes.
    pub fn set(&self, quality: Quality) {
        self.quality.send_replace(quality);
    }

    /// Lets nothing pass.
    pub fn stall(&self) {
        self.quality.send_modify(|quality| quality.open = false);
    }

    /// Bytes that have passed, both ways.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

/// When the next byte of a direction may pass.
#[derive(Debug, Default)]
struct Budget(Mutex<Option<Instant>>);

impl Budget {
    /// Pays for bytes; answers until when they are on the wire.
    fn pay(&self, bytes: usize, each_second: u64) -> Instant {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let from = next.map_or(now, |next| next.max(now));
        let takes = if each_second == 0 { 0.0 } else { bytes as f64 / each_second as f64 };
        let until = from + Duration::from_secs_f64(takes);
        *next = Some(until);
        until
    }
}

async fn accept(listener: TcpListener, to: String, quality: watch::Receiver<Quality>, passed: Arc<AtomicU64>) {
    let budgets = [Arc::new(Budget::default()), Arc::new(Budget::default())];
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let (to, quality, passed, budgets) = (to.clone(), quality.clone(), Arc::clone(&passed), budgets.clone());
        connections.spawn(async move {
            let Ok(far) = TcpStream::connect(&to).await else { return };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            let [out, back] = budgets;
            tokio::select! {
                () = pass(near_read, far_write, quality.clone(), out, Arc::clone(&passed)) => {}
                () = pass(far_read, near_write, quality, back, passed) => {}
            }
        });
    }
}

/// One direction of one connection, until either end closes.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut quality: watch::Receiver<Quality>,
    budget: Arc<Budget>,
    passed: Arc<AtomicU64>,
) {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY_MAX);
    let now = quality.clone();
    let read = async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(length) = from.read(&mut chunk).await {
            if length == 0 {
                return;
            }
            let quality = *now.borrow();
            let sent = budget.pay(length, quality.bytes_each_second);
            if sender.send((sent + quality.delay, chunk[..length].to_vec())).await.is_err() {
                return;
            }
            if let Some(until) = sent.checked_sub(ADVANCE) {
                sleep_until(until).await;
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = under_way.recv().await {
            sleep_until(due).await;
            if quality.wait_for(|quality| quality.open).await.is_err() || to.write_all(&bytes).await.is_err() {
                return;
            }
            passed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
    };
    // What was read before the end is still delivered.
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn linked() -> (Link, TcpStream) {
        let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = far.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = far.accept().await {
                let (mut read, mut write) = stream.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut read, &mut write).await });
            }
        });
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        let link = Link::open(&free, &to).await.unwrap();
        (link, TcpStream::connect(&free).await.unwrap())
    }

    #[tokio::test]
    async fn it_delays_limits_and_keeps_the_order() {
        let (link, mut stream) = linked().await;
        let delay = Duration::from_millis(60);
        link.set(Quality { delay, bytes_each_second: 200_000, open: true });
        let sent: Vec<u8> = (0..60_000_u32).map(|at| (at % 251) as u8).collect();
        let (began, mut got) = (Instant::now(), vec![0; sent.len()]);
        let (mut read, mut write) = stream.split();
        let (_, read) = tokio::join!(write.write_all(&sent), read.read_exact(&mut got));
        read.unwrap();
        assert!(got == sent);
        // Twice the delay, and 60,000 bytes at 200,000 a second.
        assert!(began.elapsed() >= 2 * delay + Duration::from_millis(250), "{:?}", began.elapsed());
        assert_eq!(link.passed(), 120_000);
    }

    #[tokio::test]
    async fn it_stands_still_until_it_is_told_to_go_on() {
        let (link, mut stream) = linked().await;
        link.stall();
        stream.write_all(b"a").await.unwrap();
        let mut byte = [0];
        let still = tokio::time::timeout(Duration::from_millis(200), stream.read_exact(&mut byte)).await;
        assert!(still.is_err());
        link.set(Quality::NEAR);
        stream.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"a");
    }
}
