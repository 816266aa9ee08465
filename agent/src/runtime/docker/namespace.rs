//! What is open in a network namespace, as the kernel shows it to anybody who may see a process in there.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use super::body::PARK;
use crate::runtime::{NamespaceView, Traces};

/// The tables of sockets below `/proc/PID/net`, and the column of each that holds the socket's inode. Hosts
/// without a protocol have no table of it.
const TABLES: [(&str, usize); 12] = [
    ("tcp", 9),
    ("tcp6", 9),
    ("udp", 9),
    ("udp6", 9),
    ("udplite", 9),
    ("udplite6", 9),
    ("raw", 9),
    ("raw6", 9),
    ("icmp", 9),
    ("icmp6", 9),
    ("unix", 6),
    ("packet", 8),
];
/// The state, in the fourth column, of a TCP connection that is over and only waits for late packets.
const TIME_WAIT: &str = "06";
/// Ports that the kernel gives to outgoing connections of a new namespace.
const CHOSEN: std::ops::RangeInclusive<u16> = 32_768..=60_999;
/// Of one table, in bytes. More is nothing that a tidy task leaves.
const TABLE_MAX: u64 = 256 << 10;
/// Room for what most tables have, so that they are read at once: each read goes over the whole of the kernel's own.
const TABLE_USUAL: usize = 8 << 10;

/// `/proc/PID` of the process that holds the namespace. What is opened below it fails once the process is
/// gone, also if another one has its number by then.
#[derive(Debug)]
pub(super) struct ProcView {
    dir: OwnedFd,
    /// Bytes of one table that are read.
    table_max: u64,
}

impl ProcView {
    /// `None`: there is no such process to be seen, or it is no parked one. So it is where the engine runs
    /// in a virtual machine, or the agent in a container.
    pub(super) fn open(pid: i64) -> Option<Self> {
        let view = Self::of(pid, TABLE_MAX).ok()?;
        let words = view.read("cmdline").ok()?;
        let is_parked = words.trim_end_matches('\0').split('\0').eq(PARK);
        is_parked.then_some(view)
    }

    fn of(pid: i64, table_max: u64) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())?;
        Ok(Self { dir, table_max })
    }

    fn read(&self, path: &str) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, path, flags, Mode::empty())?;
        let most = self.table_max;
        let mut text = String::with_capacity(TABLE_USUAL);
        let read = File::from(file).take(most + 1).read_to_string(&mut text)?;
        if u64::try_from(read).is_ok_and(|read| read <= most) {
            Ok(text)
        } else {
            let problem = format!("{path} is longer than {most} bytes");
            Err(io::Error::other(problem))
        }
    }

    /// Nothing where the host has no such protocol.
    fn read_if_any(&self, path: &str) -> io::Result<String> {
        match self.read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read,
        }
    }
}

/// How many sockets of TCP the kernel counts in a namespace. `None`: it does not say.
struct TcpCounts {
    four: Option<u64>,
    six: Option<u64>,
    /// Connections of both that are over and wait for late packets.
    late: Option<u64>,
}

impl TcpCounts {
    /// From `sockstat` and `sockstat6`.
    fn of(four: &str, six: &str) -> Self {
        let count = |text: &str, of: &str, what: &str| {
            let mut lines = text.lines();
            let line = lines.find_map(|line| line.strip_prefix(of)?.strip_prefix(": "))?;
            let mut words = line.split_ascii_whitespace();
            words.find(|word| *word == what)?;
            words.next()?.parse().ok()
        };
        Self {
            four: count(four, "TCP", "inuse"),
            six: count(six, "TCP6", "inuse"),
            late: count(four, "TCP", "tw"),
        }
    }

    /// Whether that table is known to be empty. To read it takes milliseconds all the same, on hosts with much memory: the
    /// kernel has one table of connections for all namespaces, and goes over all of it.
    fn is_empty(&self, table: &str) -> bool {
        let open = match table {
            "tcp" => self.four,
            "tcp6" => self.six,
            _ => None,
        };
        open == Some(0) && self.late == Some(0)
    }
}

impl NamespaceView for ProcView {
    fn look(&self) -> io::Result<Traces> {
        // Every namespace has these; without them, a process that is gone would seem to have nothing open.
        let interfaces = self.read("net/dev")?;
        let mut traces = Traces {
            setup: self.read("net/fib_trie")?,
            ..Traces::default()
        };
        let names = interfaces.lines().filter_map(|line| line.split_once(':'));
        for (name, _) in names {
            traces.setup.push_str(name);
        }
        let tcp = TcpCounts::of(
            &self.read_if_any("net/sockstat")?,
            &self.read_if_any("net/sockstat6")?,
        );
        for (table, inode) in TABLES {
            if tcp.is_empty(table) {
                continue;
            }
            note(
                &mut traces,
                table,
                inode,
                &self.read_if_any(&format!("net/{table}"))?,
            );
        }
        // It may have gone in between, and left tables out.
        self.read("net/dev")?;
        Ok(traces)
    }
}

/// Takes in one table.
fn note(traces: &mut Traces, table: &str, inode: usize, text: &str) {
    for line in text.lines().skip(1) {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let column = |place: usize| columns.get(place).copied().unwrap_or("?");
        if table.starts_with("tcp") && column(3) == TIME_WAIT {
            let (local, remote) = (column(1), column(2));
            if port(local).is_some_and(|port| CHOSEN.contains(&port)) && is_elsewhere(remote) {
                traces.late += 1;
            } else {
                traces.sockets.insert(format!("{table} {local} {remote}"));
            }
        } else {
            // A socket that no process holds any more has the inode 0.
            traces.sockets.insert(format!("{table} {}", column(inode)));
        }
    }
}

fn port(address: &str) -> Option<u16> {
    u16::from_str_radix(address.split_once(':')?.1, 16).ok()
}

/// Whether an address as these tables write it is of another host: words of the machine's own byte order, in
/// hexadecimal digits.
fn is_elsewhere(address: &str) -> bool {
    let Some((digits, _)) = address.split_once(':') else {
        return false;
    };
    let words = (0..digits.len()).step_by(8).map(|at| {
        let word = digits.get(at..at + 8)?;
        u32::from_str_radix(word, 16).ok().map(u32::to_ne_bytes)
    });
    let Some(words) = words.collect::<Option<Vec<[u8; 4]>>>() else {
        return false;
    };
    match *words.concat() {
        [a, b, c, d] => !Ipv4Addr::new(a, b, c, d).is_loopback(),
        ref bytes => <[u8; 16]>::try_from(bytes).is_ok_and(|bytes| {
            let address = Ipv6Addr::from(bytes);
            !address.is_loopback() && !address.to_canonical().is_loopback()
        }),
    }
}

#[cfg(test)]
mod tests;
