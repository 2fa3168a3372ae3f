//! The ways to the cluster's nodes.
//!
//! Invariants
//! - One endpoint is current; all calls begin there, until the way to it fails. A client begins at
//!   a random one, so that many clients spread over the nodes.
//! - A way that failed is replaced by a fresh channel once, however many calls it failed under.
//! - Certificate files are looked at every [`FILES_CHECK_INTERVAL`] while calls are made; new ones
//!   move every endpoint to a new channel, and calls under way end on their old one.
//! - The endpoints that are not in use are greeted every [`OTHERS_INTERVAL`] while calls are made ([`crate::fork`]).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tonic::transport::Channel;

use crate::fork::{Seen, Way};
use crate::tls::{ChannelOptions, ClientTls, Endpoint, EndpointError};

/// How often certificate files are looked at for changes.
const FILES_CHECK_INTERVAL: Duration = Duration::from_secs(20);

/// How often the endpoints that are not in use are asked which cluster they are of.
const OTHERS_INTERVAL: Duration = Duration::from_secs(30);

/// Where channels come from: TLS in earnest, plain connections in tests.
pub(crate) trait Dial: Send + Sync + 'static {
    /// A channel to the endpoint of this place; dials when first used.
    fn dial(&self, place: usize) -> Result<Channel, EndpointError>;

    /// Grows whenever new certificate files come into use.
    fn generation(&self) -> u64;

    /// Looks for changed certificate files, in the background.
    fn look(&self);
}

/// Channels with mutual TLS.
pub(crate) struct TlsDial {
    pub tls: Arc<ClientTls>,
    pub endpoints: Vec<Endpoint>,
    pub options: ChannelOptions,
}

impl Dial for TlsDial {
    fn dial(&self, place: usize) -> Result<Channel, EndpointError> {
        self.tls.channel(&self.endpoints[place], &self.options)
    }

    fn generation(&self) -> u64 {
        self.tls.generation()
    }

    fn look(&self) {
        let tls = Arc::clone(&self.tls);
        tokio::spawn(async move { tls.refresh().await });
    }
}

struct Kept {
    way: Way,
    generation: u64,
    /// Grows with every channel of this endpoint.
    number: u64,
}

/// A channel that was handed out, and which one it was.
#[derive(Clone)]
pub(crate) struct Lease {
    pub channel: Way,
    pub place: usize,
    number: u64,
}

pub(crate) struct Pool {
    dial: Box<dyn Dial>,
    names: Vec<String>,
    ways: Vec<Mutex<Kept>>,
    seen: Arc<Seen>,
    current: AtomicUsize,
    looked: Mutex<Instant>,
    greeted: Mutex<Instant>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A pool over at least one endpoint, named in their order. Must be called within a Tokio runtime.
    pub fn new(dial: Box<dyn Dial>, names: Vec<String>) -> Result<Self, EndpointError> {
        let (generation, seen) = (dial.generation(), Arc::default());
        let ways = (0..names.len())
            .map(|place| Ok(Mutex::new(Kept { way: Way::new(dial.dial(place)?, &seen), generation, number: 0 })))
            .collect::<Result<Vec<_>, EndpointError>>()?;
        let current = AtomicUsize::new(rand::random_range(0..names.len().max(1)));
        let now = Instant::now();
        Ok(Self { dial, names, ways, seen, current, looked: Mutex::new(now), greeted: Mutex::new(now) })
    }

    pub fn len(&self) -> usize {
        self.ways.len()
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The endpoint at which calls begin.
    pub fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed) % self.len()
    }

    pub fn set_current(&self, place: usize) {
        self.current.store(place, Ordering::Relaxed);
    }

    /// The channel to the endpoint of a place (modulo their number).
    pub fn lease(&self, place: usize) -> Lease {
        self.look_at_times();
        let place = place % self.len();
        let mut kept = locked(&self.ways[place]);
        let generation = self.dial.generation();
        if kept.generation != generation {
            self.renew(&mut kept, place, generation);
        }
        Lease { channel: kept.way.clone(), place, number: kept.number }
    }

    /// Greets every endpoint but the current one, at once: what they tell of the cluster's timeline is taken.
    pub fn greet_others(&self) -> impl Future<Output = ()> + Send + use<> {
        let current = self.current();
        let others = self.ways.iter().enumerate().filter(|(place, _)| *place != current);
        let greetings: Vec<_> = others.map(|(_, kept)| locked(kept).way.clone().greet()).collect();
        async move { join_all(greetings).await.into_iter().for_each(drop) }
    }

    /// Tells that the way to a leased endpoint failed: calls begin elsewhere from now on.
    pub fn failed(&self, lease: &Lease) {
        self.pass_over(lease);
        let mut kept = locked(&self.ways[lease.place]);
        if kept.number == lease.number {
            let generation = self.dial.generation();
            self.renew(&mut kept, lease.place, generation);
        }
    }

    /// Tells that a leased endpoint answers but cannot do its work: calls begin elsewhere from now on.
    pub fn pass_over(&self, lease: &Lease) {
        let next = (lease.place + 1) % self.len();
        let _ = self.current.compare_exchange(lease.place, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn renew(&self, kept: &mut Kept, place: usize, generation: u64) {
        // Name and address were usable once and do not change, so this does not fail; if it did,
        // the former channel would go on dialling.
        if let Ok(channel) = self.dial.dial(place) {
            *kept = Kept { way: Way::new(channel, &self.seen), generation, number: kept.number + 1 };
        }
    }

    fn look_at_times(&self) {
        let mut looked = locked(&self.looked);
        if looked.elapsed() >= FILES_CHECK_INTERVAL {
            *looked = Instant::now();
            self.dial.look();
        }
        let mut greeted = locked(&self.greeted);
        if greeted.elapsed() >= OTHERS_INTERVAL {
            *greeted = Instant::now();
            tokio::spawn(tokio::time::timeout(OTHERS_INTERVAL, self.greet_others()));
        }
    }
}
