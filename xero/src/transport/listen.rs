//! Listening sockets of the operating system: the address to bind, stale socket files, and prompt closing.

#[cfg(unix)]
mod unix;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener},
    panic::AssertUnwindSafe,
};
#[cfg(not(windows))]
use std::{ops::RangeInclusive, sync::LazyLock, time::Duration};

use futures_util::FutureExt;
use socket2::{Domain, Socket, Type};
#[cfg(not(windows))]
use tokio::time::timeout;

use super::{
    endpoint::{Address, Endpoint, Host},
    error::TransportError,
};
use crate::io::guest::describe_panic;

/// A listening socket, its endpoint, and its closer.
pub(super) struct Bound {
    pub(super) listener: Listener,
    /// The endpoint in a form that a peer on this machine can dial.
    pub(super) endpoint: Endpoint,
    pub(super) closer: Closer,
}

pub(super) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixListener),
}

/// Stops listening when dropped, whoever else holds the listener; its address is free at once.
#[derive(Debug)]
pub(super) struct Closer {
    socket: Socket,
    /// Dropped after the socket has been shut down.
    #[cfg(unix)]
    _file: Option<unix::SocketFile>,
}

impl Drop for Closer {
    fn drop(&mut self) {
        // Some systems refuse this for a listening socket. There, the address is free once the accepting task has run.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Binds an endpoint of a socket of the operating system.
pub(super) async fn bind(endpoint: &Endpoint) -> Result<Bound, TransportError> {
    let failed = |error| TransportError::of_bind(endpoint, error);
    match endpoint.address() {
        Address::Tcp { host, port } => {
            let listener = bind_first(&candidates(endpoint, host, *port).await?).map_err(failed)?;
            let local = listener.local_addr().map_err(failed)?;
            let socket = listener.try_clone().map_err(failed)?.into();
            let endpoint = dialable(host, local);
            #[cfg(unix)]
            let closer = Closer { socket, _file: None };
            #[cfg(not(unix))]
            let closer = Closer { socket };
            Ok(Bound { listener: Listener::Tcp(listener), endpoint, closer })
        }
        #[cfg(unix)]
        Address::Ipc { path } => {
            let (listener, file) = unix::bind_path(endpoint, path.as_ref())?;
            let socket = listener.try_clone().map_err(failed)?.into();
            let closer = Closer { socket, _file: Some(file) };
            Ok(Bound { listener: Listener::Unix(listener), endpoint: endpoint.clone(), closer })
        }
        #[cfg(not(unix))]
        Address::Ipc { .. } => Err(TransportError::Unsupported { endpoint: endpoint.clone() }),
        Address::Inproc { .. } => Err(failed(io::ErrorKind::Unsupported.into())),
    }
}

/// Keeps the system from choosing the dialed port for the dialing end.
///
/// If nobody listens there and both ends are on this machine, the system may choose it. Such a connection meets itself,
/// and after its close nobody can bind that port for a minute. A listener that starts during the dial must set the
/// option for reusing addresses, as we and most others do. So a port that the system never chooses is not reserved.
#[cfg(not(windows))]
pub(super) async fn reserve(endpoint: &Endpoint) -> Vec<Socket> {
    let Address::Tcp { host, port } = endpoint.address() else { return Vec::new() };
    if !chosen_by_the_system().contains(port) {
        return Vec::new();
    }
    let found = timeout(LOOKUP_MAX, candidates(endpoint, host, *port)).await;
    let addresses = found.ok().and_then(Result::ok).unwrap_or_default();
    // An address of another machine, or one with a listener, cannot be bound, and need not be.
    addresses.into_iter().filter_map(|address| hold(address).ok()).collect()
}

#[cfg(not(windows))]
fn hold(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The ephemeral ports, from which the system chooses one for a dialing end.
#[cfg(not(windows))]
fn chosen_by_the_system() -> &'static RangeInclusive<u16> {
    static RANGE: LazyLock<RangeInclusive<u16>> = LazyLock::new(|| {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
        text.as_deref().and_then(range_of).unwrap_or(CHOSEN_BY_MOST)
    });
    &RANGE
}

#[cfg(not(windows))]
fn range_of(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.trim().split_once(char::is_whitespace)?;
    let range = first.parse().ok()?..=last.trim().parse().ok()?;
    (!range.is_empty()).then_some(range)
}

/// The addresses to try, best first.
pub(super) async fn candidates(endpoint: &Endpoint, host: &Host, port: u16) -> Result<Vec<SocketAddr>, TransportError> {
    match host {
        Host::Any => Ok(vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]),
        Host::Ip(ip) => Ok(vec![(*ip, port).into()]),
        Host::Name(name) => {
            // Tokio panics if it gets no thread for the look-up.
            let found = AssertUnwindSafe(tokio::net::lookup_host((name.as_str(), port))).catch_unwind().await;
            let found = found.unwrap_or_else(|panic| Err(io::Error::other(describe_panic(panic))));
            let mut found: Vec<_> =
                found.map_err(|source| TransportError::Resolve { endpoint: endpoint.clone(), source })?.collect();
            // `localhost` means 127.0.0.1, as others will write it.
            found.sort_by_key(SocketAddr::is_ipv6);
            Ok(found)
        }
    }
}

/// Binds the first address that this machine has.
fn bind_first(candidates: &[SocketAddr]) -> io::Result<TcpListener> {
    let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in candidates {
        result = bind_tcp(*address);
        match &result {
            // Another address would hide that this one is taken.
            Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => break,
            Err(_) => {}
            Ok(_) => break,
        }
    }
    result
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    // A restarted process can bind at once, though connections of its last life linger in TIME_WAIT. On Windows the
    // option lets others take the port, and it is not needed.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(UNREAD_MAX))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The bound address as a peer on this machine writes it.
fn dialable(host: &Host, local: SocketAddr) -> Endpoint {
    let ip = match (host, local.ip()) {
        (Host::Any, _) => Ipv4Addr::LOCALHOST.into(),
        (_, IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => Ipv4Addr::LOCALHOST.into(),
        (_, IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => Ipv6Addr::LOCALHOST.into(),
        (_, ip) => ip,
    };
    Endpoint::tcp(ip, local.port())
}

/// The time limit of a look-up; after it, the port is dialed without being reserved.
#[cfg(not(windows))]
const LOOKUP_MAX: Duration = Duration::from_millis(250);

/// The range if the system does not name one. Linux begins here, and most other systems at 49,152.
#[cfg(not(windows))]
const CHOSEN_BY_MOST: RangeInclusive<u16> = 32_768..=u16::MAX;

/// Connections that wait to be accepted: room for a thousand workers that redial at once after a restart.
const BACKLOG: i32 = 1024;

/// How long a peer may leave sent bytes unacknowledged, or its window closed, before the system ends its connection.
///
/// Both ends of our own transport have it. Without it, the queue of a peer that never reads would stay until that
/// peer's process ends. It is far longer than any pause of a healthy peer, whose I/O thread always reads.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) const UNREAD_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn accepted_connections_inherit_the_limit_on_unread_data() {
        let listener = bind_tcp((Ipv4Addr::LOCALHOST, 0).into()).expect("a listener");
        let _dialed = std::net::TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (accepted, _) = listener.accept().expect("a connection");
        let limit = socket2::SockRef::from(&accepted).tcp_user_timeout().expect("an option");
        assert_eq!(limit, Some(UNREAD_MAX));
    }

    /// A server without the option for reusing addresses can bind its port during a dial.
    #[cfg(not(windows))]
    #[tokio::test]
    async fn port_that_the_system_never_chooses_for_a_dialing_end_is_not_reserved() {
        let chosen = chosen_by_the_system();
        let endpoint = |address: SocketAddr| format!("tcp://{address}").parse::<Endpoint>().expect("an endpoint");
        let outside = [1024, *chosen.start() - 1].into_iter().filter(|port| !chosen.contains(port));
        for port in outside {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            assert!(reserve(&endpoint(address)).await.is_empty(), "{port}");
        }
        // TEST-NET-1 belongs to no machine.
        let foreign = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), *chosen.start()));
        assert!(reserve(&endpoint(foreign)).await.is_empty());
    }

    #[cfg(not(windows))]
    #[test]
    fn range_of_ports_is_read_as_the_system_writes_it() {
        assert_eq!(range_of("32768\t60999\n"), Some(32768..=60999));
        for text in ["", "32768", "a\tb", "60999\t32768", "1\t65536"] {
            assert_eq!(range_of(text), None, "{text:?}");
        }
    }

    /// The system tries every second one of its ports in turn, so it reaches the dialed one sooner or later.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn reserved_port_never_connects_to_itself_and_can_be_bound() {
        let address = free_port_for_dialing();
        // A system on which no dial meets itself needs no reservation.
        let Some(attempts) = dials_until_self_connected(address, 200_000) else { return };
        let endpoint: Endpoint = format!("tcp://{address}").parse().expect("an endpoint");
        let reserved = reserve(&endpoint).await;
        assert_eq!(reserved.len(), 1);
        assert_eq!(dials_until_self_connected(address, attempts.max(60_000)), None);
        let _listener = bind_tcp(address).expect("it makes way");
        assert!(reserve(&endpoint).await.is_empty(), "somebody listens");
        let localhost = format!("tcp://localhost:{}", free_port_for_dialing().port()).parse().expect("an endpoint");
        assert!(!reserve(&localhost).await.is_empty());
    }

    #[cfg(target_os = "linux")]
    fn free_port_for_dialing() -> SocketAddr {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("a range");
        let first: u16 = range.split_whitespace().next().and_then(|first| first.parse().ok()).expect("a port");
        loop {
            let chosen = bind_tcp((Ipv4Addr::LOCALHOST, 0).into()).and_then(|it| it.local_addr()).expect("a port");
            let address = SocketAddr::new(chosen.ip(), chosen.port() & !1 | first & 1);
            if hold(address).is_ok() {
                return address;
            }
        }
    }

    /// A connection that met itself is reset, so that its port is free again.
    #[cfg(target_os = "linux")]
    fn dials_until_self_connected(address: SocketAddr, attempts_max: usize) -> Option<usize> {
        (0..attempts_max).find(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_linger(Some(Duration::ZERO)).expect("an option");
            socket.connect(&address.into()).is_ok()
        })
    }

    #[test]
    fn address_in_use_is_not_skipped_for_another() {
        let taken = bind_tcp((Ipv4Addr::LOCALHOST, 0).into()).expect("a listener");
        let address = taken.local_addr().expect("an address");
        let other = (Ipv4Addr::LOCALHOST, 0).into();
        assert_eq!(bind_first(&[address, other]).expect_err("an error").kind(), io::ErrorKind::AddrInUse);
        // TEST-NET-1 belongs to no machine.
        let absent = (Ipv4Addr::new(192, 0, 2, 1), 0).into();
        assert!(bind_first(&[absent, other]).is_ok());
        assert_eq!(bind_first(&[absent]).expect_err("an error").kind(), io::ErrorKind::AddrNotAvailable);
    }
}
