//! A line to a member that can be counted and cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Carries connections to one address.
pub(super) struct Line {
    pub(super) address: SocketAddr,
    /// Bytes carried towards the address.
    pub(super) carried: Arc<AtomicU64>,
    /// Bytes that it still carries before it cuts that connection. Each cut takes the next budget.
    pub(super) budget: Arc<AtomicI64>,
    pub(super) cuts: Arc<AtomicU64>,
}

impl Line {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = Self {
            address: listener.local_addr().unwrap(),
            carried: Arc::default(),
            budget: Arc::new(AtomicI64::new(i64::MAX)),
            cuts: Arc::default(),
        };
        let (carried, budget, cuts) = (line.carried.clone(), line.budget.clone(), line.cuts.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let (carried, budget, cuts) = (carried.clone(), budget.clone(), cuts.clone());
                tokio::spawn(async move {
                    let (mut near_read, mut near_write) = near.into_split();
                    let (mut far_read, mut far_write) = far.into_split();
                    let back = tokio::spawn(async move {
                        let _ = tokio::io::copy(&mut far_read, &mut near_write).await;
                    });
                    let mut buffer = vec![0; 16 << 10];
                    while let Ok(count @ 1..) = near_read.read(&mut buffer).await {
                        carried.fetch_add(count as u64, Ordering::SeqCst);
                        if far_write.write_all(&buffer[..count]).await.is_err() {
                            break;
                        }
                        let count = count as i64;
                        let before = budget.fetch_sub(count, Ordering::SeqCst);
                        if before > 0 && before <= count {
                            cuts.fetch_add(1, Ordering::SeqCst);
                            break;
                        }
                    }
                    back.abort();
                });
            }
        });
        line
    }
}
