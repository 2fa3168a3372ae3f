//! One network namespace for each node, joined by a bridge in the run's own.
//!
//! The run lives in namespaces of its own (network, mounts, processes; see [`crate::apart`]), so that
//! nothing of this is seen outside and all of it ends with the run, however that ends.
//!
//! Invariants
//! - A filter belongs to the fault that set it, by a table of its own, and goes with it.
//! - What a filter drops is counted: a fault that met no packet can be told from one that did.

use std::collections::BTreeMap;

use super::tool::{ToolError, call, feed};

/// The bridge.
const HUB: &str = "hub";

/// The addresses begin so; the run has `.1`, nodes `.11` and on.
const NET: &str = "10.77.0";

/// The last byte of the first node's address.
const FIRST: usize = 11;

/// Every node's port.
pub const PORT: u16 = 7001;

/// The run's own address, which every node reaches.
pub fn hub_host() -> String {
    format!("{NET}.1")
}

/// What is dropped of what a node is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The node that does not hear.
    pub at: String,
    /// Of whom; of everybody, if none is named.
    pub from: Vec<String>,
    /// How many packets of a hundred.
    pub percent: u32,
}

/// The nodes' network.
#[derive(Debug, Default)]
pub struct Network {
    places: BTreeMap<String, usize>,
}

impl Network {
    /// Makes the bridge.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn open() -> Result<Self, ToolError> {
        call("mkdir", &["-p", "/run/netns"]).await?;
        // Names of namespaces are files there; in the run's own mounts they are nobody else's.
        call("mount", &["-t", "tmpfs", "kura-chaos", "/run/netns"]).await?;
        ip("link set lo up").await?;
        ip(&format!("link add {HUB} type bridge")).await?;
        ip(&format!("addr add {NET}.1/24 dev {HUB}")).await?;
        ip(&format!("link set {HUB} up")).await?;
        Ok(Self::default())
    }

    /// Gives a node a namespace and an address.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn add(&mut self, node: &str) -> Result<(), ToolError> {
        let place = self.places.len();
        let address = format!("{NET}.{}", FIRST + place);
        ip(&format!("netns add {node}")).await?;
        ip(&format!("link add {node} type veth peer name eth0 netns {node}")).await?;
        ip(&format!("link set {node} master {HUB} up")).await?;
        ip(&format!("-n {node} addr add {address}/24 dev eth0")).await?;
        ip(&format!("-n {node} link set eth0 up")).await?;
        ip(&format!("-n {node} link set lo up")).await?;
        self.places.insert(node.to_owned(), place);
        Ok(())
    }

    /// A node's address.
    pub fn host(&self, node: &str) -> String {
        format!("{NET}.{}", FIRST + self.places.get(node).copied().unwrap_or_default())
    }

    /// Where a node is reached.
    pub fn address(&self, node: &str) -> String {
        format!("{}:{PORT}", self.host(node))
    }

    /// The words before a command that is to run at a node.
    pub fn enter(node: &str) -> Vec<String> {
        // Not `ip netns exec`: that has mounts of its own, and would hold on to other nodes' disks.
        vec!["nsenter".to_owned(), format!("--net=/run/netns/{node}"), "--".to_owned()]
    }

    /// Pulls a node's cable, or puts it back.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn link(node: &str, up: bool) -> Result<(), ToolError> {
        ip(&format!("link set {node} {}", if up { "up" } else { "down" })).await
    }

    /// Sets filters of one fault.
    ///
    /// # Errors
    /// [`ToolError`]; some of them may be set then.
    pub async fn filter(&self, fault: u32, filters: &[Filter]) -> Result<(), ToolError> {
        for filter in filters {
            let script = script(fault, filter, |node| self.host(node));
            nft(&filter.at, &["-f", "-"], &script).await?;
        }
        Ok(())
    }

    /// Takes the filters of a fault away at a node, and answers how many packets they dropped.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn unfilter(fault: u32, node: &str) -> Result<u64, ToolError> {
        let table = format!("fault{fault}");
        let told = nft(node, &["list", "table", "inet", &table], "").await?;
        nft(node, &["delete", "table", "inet", &table], "").await?;
        Ok(dropped(&told))
    }

    /// Lets a node send only so many kilobits a second.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn slow(node: &str, kbit: u32) -> Result<(), ToolError> {
        let words = format!("-n {node} qdisc replace dev eth0 root tbf rate {kbit}kbit burst 16kb latency 300ms");
        call("tc", &words.split(' ').collect::<Vec<_>>()).await.map(drop)
    }

    /// Lets a node receive only so many kilobits a second.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn slow_to(node: &str, kbit: u32) -> Result<(), ToolError> {
        let words = format!("qdisc replace dev {node} root tbf rate {kbit}kbit burst 64kb latency 300ms");
        call("tc", &words.split(' ').collect::<Vec<_>>()).await.map(drop)
    }

    /// Lets it receive at full speed again, and answers how many packets were held or dropped meanwhile.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn fast_to(node: &str) -> Result<u64, ToolError> {
        let told = call("tc", &["-s", "qdisc", "show", "dev", node]).await?;
        call("tc", &["qdisc", "del", "dev", node, "root"]).await?;
        Ok(number_after(&told, "dropped ") + number_after(&told, "overlimits "))
    }

    /// Lets it send at full speed again, and answers how many packets were held or dropped meanwhile.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn fast(node: &str) -> Result<u64, ToolError> {
        let told = call("tc", &["-n", node, "-s", "qdisc", "show", "dev", "eth0"]).await?;
        call("tc", &["-n", node, "qdisc", "del", "dev", "eth0", "root"]).await?;
        Ok(number_after(&told, "dropped ") + number_after(&told, "overlimits "))
    }
}

async fn ip(words: &str) -> Result<(), ToolError> {
    call("ip", &words.split(' ').collect::<Vec<_>>()).await.map(drop)
}

async fn nft(node: &str, arguments: &[&str], input: &str) -> Result<String, ToolError> {
    let words = Network::enter(node);
    let mut all: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    all.push("nft");
    all.extend(arguments);
    feed(&words[0], &all, input).await
}

fn script(fault: u32, filter: &Filter, host: impl Fn(&str) -> String) -> String {
    let some = match filter.percent {
        100.. => String::new(),
        percent => format!("numgen random mod 100 < {percent} "),
    };
    let mut rules: Vec<String> =
        filter.from.iter().map(|node| format!("  ip saddr {} {some}counter drop\n", host(node))).collect();
    if rules.is_empty() {
        rules.push(format!("  {some}counter drop\n"));
    }
    let rules: String = rules.concat();
    format!("table inet fault{fault} {{\n chain in {{\n  type filter hook input priority 0;\n{rules} }}\n}}\n")
}

/// The packets of all counters in what `nft` lists.
fn dropped(told: &str) -> u64 {
    told.split("counter packets ").skip(1).map(|rest| number_after(rest, "")).sum()
}

fn number_after(text: &str, mark: &str) -> u64 {
    let Some((_, rest)) = text.split_once(mark) else { return 0 };
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_written_and_their_counters_read() {
        let filter = Filter { at: "voter-1".into(), from: vec!["voter-2".into(), "voter-3".into()], percent: 30 };
        let text = script(7, &filter, |node| format!("10.77.0.{}", &node[6..]));
        assert_eq!(text.matches("numgen random mod 100 < 30 counter drop").count(), 2);
        assert!(text.starts_with("table inet fault7 {") && text.contains("ip saddr 10.77.0.3 "));
        let all = script(7, &Filter { from: Vec::new(), percent: 100, ..filter }, |_| unreachable!());
        assert!(all.contains("\n  counter drop\n"), "{all}");
        assert_eq!(dropped("counter packets 12 bytes 3 drop\n counter packets 30 bytes 1 drop"), 42);
        assert_eq!(dropped("nothing"), 0);
        assert_eq!(number_after(" Sent 1 bytes (dropped 5, overlimits 17 requeues 0)", "overlimits "), 17);
    }
}
