//! The TCP sockets of this network namespace, from the kernel's tables.
//!
//! Each line needs only two numbers and a state, so a crate that reads all of `/proc` is not worth it. A line in an
//! unknown form is skipped instead of spoiling the table.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
};

/// One line of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    local_port: u16,
    remote_port: u16,
    state: u8,
}

/// Shows each current socket.
pub(super) fn visit(mut each: impl FnMut(Socket)) -> Result<(), String> {
    let mut tables = 0;
    for path in TABLES {
        match File::open(path).and_then(|table| visit_table(BufReader::new(table), &mut each)) {
            Ok(()) => tables += 1,
            // A kernel without IPv6 has no second table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("cannot read {path}: {error}")),
        }
    }
    if tables == 0 { Err(format!("there is no {}: is /proc mounted?", TABLES[0])) } else { Ok(()) }
}

impl Socket {
    /// Reads a line of a table: its number, the local and the remote address, the state, and fields that are ignored.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().skip(1);
        let local_port = port(words.next()?)?;
        let remote_port = port(words.next()?)?;
        let state = u8::from_str_radix(words.next()?, 16).ok()?;
        Some(Self { local_port, remote_port, state })
    }

    pub(super) fn listens_on(self, port: u16) -> bool {
        self.state == LISTEN && self.local_port == port
    }

    pub(super) fn is_connected_to(self, port: u16) -> bool {
        self.state == ESTABLISHED && self.remote_port == port
    }
}

fn visit_table(table: impl BufRead, each: &mut impl FnMut(Socket)) -> io::Result<()> {
    for line in table.split(b'\n') {
        if let Some(socket) = std::str::from_utf8(&line?).ok().and_then(Socket::parse) {
            each(socket);
        }
    }
    Ok(())
}

/// The port of an address such as `0100007F:15B8`.
fn port(address: &str) -> Option<u16> {
    let (_, port) = address.split_once(':')?;
    u16::from_str_radix(port, 16).ok()
}

const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

// The states of Linux's `include/net/tcp_states.h`.
const ESTABLISHED: u8 = 0x01;
const LISTEN: u8 = 0x0A;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_and_connected_sockets_differ() {
        let sockets = parsed(TABLE);
        let listening = [5560, 8080].map(|port| sockets.iter().any(|socket| socket.listens_on(port)));
        let connected = [5561, 5560].map(|port| sockets.iter().any(|socket| socket.is_connected_to(port)));
        assert_eq!((sockets.len(), listening, connected), (4, [true, false], [true, false]));
    }

    #[test]
    fn connection_is_to_the_peers_port_and_not_to_its_own() {
        let [socket] = parsed(" 1: 0100007F:15B9 0100007F:8A2C 01 00000000:00000000")[..] else { panic!("one socket") };
        assert!(!socket.is_connected_to(0x15B9) && socket.is_connected_to(0x8A2C) && !socket.listens_on(0x15B9));
    }

    #[test]
    fn line_that_is_cut_or_changed_anywhere_never_panics() {
        for end in 0..TABLE.len() {
            parsed(TABLE.get(..end).unwrap_or_default());
            for byte in [b' ', b'\n', b':', b'x', 0, 0xFF] {
                let mut changed = TABLE.as_bytes().to_vec();
                changed[end] = byte;
                visit_table(&changed[..], &mut |_| {}).expect("is read from memory");
            }
        }
    }

    #[test]
    fn malformed_line_is_skipped() {
        for line in
            ["", "sl", "0:", "0: 1", "0: 1 2", "0: 1:2 3:4", "0: 1:2 3:4 xy", "0: 1:2 3 0A", "0: 1:12345 3:4 0A"]
        {
            assert_eq!(parsed(line), [], "{line:?}");
            assert_eq!(parsed(&format!("{line}\n{}", LISTENER)).len(), 1, "{line:?}");
        }
    }

    const LISTENER: &str = "   0: 00000000:15B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 1067 1";

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:15B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 1067 1 000000008e084aae 100 0 0 10 0
   1: 020200C0:ED2C 507100CB:15B9 01 00000000:00000000 03:000014D1 00000000  0 0 0 3 000000002be12f2f
   2: 020200C0:ED2E 507100CB:15B8 06 00000000:00000000 03:00001528 00000000  0 0 0 3 0000000096424c33
   3: 00000000000000000000000001000000:1F90 00000000000000000000000001000000:0050 01 00000000:00000000 00:00000000 0
";

    fn parsed(table: &str) -> Vec<Socket> {
        let mut sockets = Vec::new();
        visit_table(table.as_bytes(), &mut |socket| sockets.push(socket)).expect("is read from memory");
        sockets
    }
}
