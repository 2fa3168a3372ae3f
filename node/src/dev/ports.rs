//! Free ports on 127.0.0.1.
//!
//! Invariant: they lie below the range from which the system draws ports of outgoing connections.
//! A port of that range would be free today and taken by some client after a restart; worse, a node
//! that dials a stopped peer on such a port can be given that very port and connect to itself.

use std::net::TcpListener;

use super::DevError;

const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

/// Where the system draws from unless it says otherwise.
const OUTGOING_FIRST_DEFAULT: u16 = 32_768;

/// So many ports that are free now; consecutive ones from a base on, if one is given.
///
/// # Errors
/// [`DevError::Ports`].
pub fn free(wanted: usize, base: Option<u16>) -> Result<Vec<u16>, DevError> {
    let none = || DevError::Ports { wanted, from: base };
    if let Some(base) = base {
        let last = usize::from(base) + wanted - 1;
        let last = u16::try_from(last).map_err(|_| none())?;
        let ports: Vec<u16> = (base..=last).collect();
        return if ports.iter().all(|port| listen(*port).is_some()) { Ok(ports) } else { Err(none()) };
    }
    let end = LAST.min(outgoing_first());
    let first = if end > FIRST { FIRST } else { 1024 };
    let span = end.saturating_sub(first).max(1);
    // Starting anywhere keeps two clusters that start at the same time apart.
    let offset = rand::random::<u16>() % span;
    let mut held = Vec::new();
    let mut ports = Vec::new();
    for step in 0..span {
        let port = first + (offset + step) % span;
        if let Some(listener) = listen(port) {
            held.push(listener);
            ports.push(port);
            if ports.len() == wanted {
                return Ok(ports);
            }
        }
    }
    Err(none())
}

fn listen(port: u16) -> Option<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).ok()
}

fn outgoing_first() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(OUTGOING_FIRST_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_distinct_and_not_for_outgoing_connections() {
        let ports = free(8, None).unwrap();
        let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), 8);
        assert!(ports.iter().all(|port| *port < outgoing_first() && listen(*port).is_some()));
    }

    #[test]
    fn a_taken_base_is_refused() {
        let port = free(1, None).unwrap()[0];
        let taken = listen(port).unwrap();
        assert!(matches!(free(2, Some(port - 1)), Err(DevError::Ports { .. })));
        drop(taken);
        assert!(matches!(free(2, Some(u16::MAX)), Err(DevError::Ports { .. })));
    }
}
