use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;

use super::*;

/// This process's own namespace is that of the host, where there may be any number of sockets.
const HOST_MAX: u64 = 1 << 30;

fn own() -> Traces {
    let view = ProcView::of(i64::from(std::process::id()), HOST_MAX).unwrap();
    view.look().unwrap()
}

#[test]
fn an_open_socket_is_seen_and_a_closed_one_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener6 = TcpListener::bind("[::1]:0").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let inode = |fd: std::os::fd::RawFd| {
        let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        let text = link.to_string_lossy().into_owned();
        let inode = text.strip_prefix("socket:[").unwrap();
        inode.strip_suffix(']').unwrap().to_owned()
    };
    let tcp = format!("tcp {}", inode(listener.as_raw_fd()));
    let tcp6 = format!("tcp6 {}", inode(listener6.as_raw_fd()));
    let udp = format!("udp {}", inode(datagrams.as_raw_fd()));
    let all = [&tcp, &tcp6, &udp];
    let seen = own();
    assert!(all.iter().all(|socket| seen.sockets.contains(*socket)));
    assert!(seen.setup.contains("127.0.0.1") && seen.setup.contains("lo"));
    drop((listener, listener6, datagrams));
    let seen = own();
    assert!(!all.iter().any(|socket| seen.sockets.contains(*socket)));
}

#[test]
fn a_table_of_tcp_is_left_out_only_if_the_kernel_counts_nothing_in_it() {
    let four = |open: u32, late: u32| {
        format!(
            "sockets: used 7\nTCP: inuse {open} orphan 3 tw {late} alloc 9 mem 1\nUDP: inuse 1 mem 0\n"
        )
    };
    let six = |open: u32| format!("TCP6: inuse {open}\nUDP6: inuse 0\n");
    let left_out = |four: &str, six: &str| {
        let counts = TcpCounts::of(four, six);
        TABLES
            .map(|(table, _)| table)
            .into_iter()
            .filter(|table| counts.is_empty(table))
            .collect::<Vec<_>>()
    };
    assert_eq!(left_out(&four(0, 0), &six(0)), ["tcp", "tcp6"]);
    assert_eq!(left_out(&four(1, 0), &six(0)), ["tcp6"]);
    assert_eq!(left_out(&four(0, 0), &six(1)), ["tcp"]);
    let nothing: [&str; 0] = [];
    assert_eq!(left_out(&four(0, 1), &six(0)), nothing);
    assert_eq!(left_out(&four(1, 0), ""), nothing);
    assert_eq!(left_out("", ""), nothing);
    assert_eq!(left_out("TCP: inuse x tw\n", "TCP6:\n"), nothing);
}

#[test]
fn only_what_waits_on_a_port_of_the_kernels_choice_and_for_another_host_does_not_count() {
    let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        0: 0200A8C0:A000 0105A8C0:01BB 06 00000000:00000000 03:000014D6 00000000     0        0 0 3 0\n\
        1: 0200A8C0:1F90 0105A8C0:A001 06 00000000:00000000 03:000014D6 00000000     0        0 0 3 0\n\
        2: 0100007F:A000 0100007F:A001 06 00000000:00000000 03:000014D6 00000000     0        0 0 3 0\n\
        3: 0200A8C0:A000 0105A8C0:01BB 05 00000000:00000000 03:000014D6 00000000     0        0 0 3 0\n\
        4: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 651 1 0\n";
    let mut traces = Traces::default();
    note(&mut traces, "tcp", 9, table);
    assert_eq!(traces.late, 1);
    let wanted = [
        "tcp 0",
        "tcp 0100007F:A000 0100007F:A001",
        "tcp 0200A8C0:1F90 0105A8C0:A001",
        "tcp 651",
    ];
    assert!(traces.sockets.iter().eq(wanted.iter()), "{traces:?}");
    let six = "sl\n\
        0: 00000000000000000000000001000000:A000 00000000000000000000000001000000:0050 06\n\
        1: 0000000000000000FFFF00000200A8C0:A000 0000000000000000FFFF00000100007F:0050 06\n\
        2: 0000000000000000FFFF00000200A8C0:A000 0000000000000000FFFF00000105A8C0:0050 06\n";
    let mut traces = Traces::default();
    note(&mut traces, "tcp6", 9, six);
    assert_eq!((traces.late, traces.sockets.len()), (1, 2));
}

#[test]
fn whatever_is_left_is_not_clean() {
    let first = Traces {
        sockets: ["tcp 1".to_owned()].into(),
        late: 0,
        setup: "eth0".into(),
    };
    let with = |change: &dyn Fn(&mut Traces)| {
        let mut later = first.clone();
        change(&mut later);
        later.is_clean_after(&first)
    };
    assert!(with(&|_| {}));
    assert!(with(&|later| later.late = 64));
    assert!(!with(&|later| later.late = 65));
    assert!(!with(&|later| later.sockets.extend(["udp 5".into()])));
    assert!(!with(&|later| later.sockets.clear()));
    assert!(!with(&|later| later.setup.push('x')));
}

#[test]
fn a_process_that_is_gone_or_another_one_can_t_be_looked_at() {
    assert!(ProcView::open(i64::from(i32::MAX)).is_none());
    assert!(ProcView::open(i64::from(std::process::id())).is_none());
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let view = ProcView::of(i64::from(child.id()), HOST_MAX).unwrap();
    view.look().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    view.look().unwrap_err();
}
