//! Listening sockets of the operating system: which address to bind, stale socket files, and prompt closing.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener},
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket, Type};
use uuid::Uuid;

use super::{
    endpoint::{Address, Endpoint, Host},
    transport::TransportError,
};

/// A socket that listens, where it does, and what ends it.
pub(super) struct Bound {
    pub(super) listener: Listener,
    /// A form that a peer on this machine can connect to.
    pub(super) endpoint: Endpoint,
    pub(super) closer: Closer,
}

pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Stops listening when dropped, whoever else still holds the listener; its address can be bound again at once.
#[derive(Debug)]
pub(super) struct Closer {
    socket: Socket,
    /// Dropped after the socket has been shut down.
    _file: Option<SocketFile>,
}

impl Drop for Closer {
    fn drop(&mut self) {
        // Some systems refuse this for a listening socket; there the address is free once the accepting task has run.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Binds an endpoint of a socket of the operating system.
pub(super) async fn bind(endpoint: &Endpoint) -> Result<Bound, TransportError> {
    let failed = |error| bind_error(endpoint, error);
    match endpoint.address() {
        Address::Tcp { host, port } => {
            let listener = bind_first(&candidates(endpoint, host, *port).await?).map_err(failed)?;
            let local = listener.local_addr().map_err(failed)?;
            let socket = listener.try_clone().map_err(failed)?.into();
            let endpoint = dialable(host, local);
            Ok(Bound { listener: Listener::Tcp(listener), endpoint, closer: Closer { socket, _file: None } })
        }
        Address::Ipc { path } => {
            let (listener, file) = bind_path(endpoint, Path::new(path))?;
            let socket = listener.try_clone().map_err(failed)?.into();
            let closer = Closer { socket, _file: Some(file) };
            Ok(Bound { listener: Listener::Unix(listener), endpoint: endpoint.clone(), closer })
        }
        Address::Inproc { .. } => Err(failed(io::ErrorKind::Unsupported.into())),
    }
}

/// The addresses to try, best first.
async fn candidates(endpoint: &Endpoint, host: &Host, port: u16) -> Result<Vec<SocketAddr>, TransportError> {
    match host {
        Host::Any => Ok(vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]),
        Host::Ip(ip) => Ok(vec![(*ip, port).into()]),
        Host::Name(name) => {
            let found = tokio::net::lookup_host((name.as_str(), port)).await;
            let mut found: Vec<_> =
                found.map_err(|source| TransportError::Resolve { endpoint: endpoint.clone(), source })?.collect();
            // `localhost` is to mean 127.0.0.1, which is what others will write for it.
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
    // A restarted process can bind at once, though connections of its last life linger in TIME_WAIT.
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

/// A socket file of ours, removed when dropped unless another process has put its own in its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |found: fs::Metadata| (found.dev(), found.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds under a name of its own, then links the socket to its path: nobody meets a file that does not listen yet,
/// and whoever removes the name it was bound under (the ZeroMQ crate does, some time after the end) harms nobody.
fn bind_path(endpoint: &Endpoint, path: &Path) -> Result<(UnixListener, SocketFile), TransportError> {
    let failed = |error| bind_error(endpoint, error);
    let draft = path.with_file_name(format!(".{:06x}", Uuid::new_v4().as_u128() & 0xff_ffff));
    let listener = UnixListener::bind(&draft).map_err(failed)?;
    let linked = link(endpoint, &draft, path);
    let metadata = fs::symlink_metadata(&draft);
    let _ = fs::remove_file(&draft);
    linked?;
    let metadata = metadata.map_err(failed)?;
    Ok((listener, SocketFile { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() }))
}

/// Gives the socket at `draft` the name `path`, if that is free or was left behind by a dead process.
fn link(endpoint: &Endpoint, draft: &Path, path: &Path) -> Result<(), TransportError> {
    for _ in 0..LINK_ATTEMPTS {
        match fs::hard_link(draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => remove_stale(endpoint, path)?,
            result => return result.map_err(|error| bind_error(endpoint, error)),
        }
    }
    Err(TransportError::AddressInUse { endpoint: endpoint.clone() })
}

/// Removes a socket file that nobody listens at.
fn remove_stale(endpoint: &Endpoint, path: &Path) -> Result<(), TransportError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(TransportError::NotASocket { endpoint: endpoint.clone() });
        }
        Ok(_) => {}
        // It went away by itself.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(bind_error(endpoint, error)),
    }
    match knock(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(bind_error(endpoint, error)),
            _ => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(bind_error(endpoint, error)),
        // A full backlog also means that somebody is there.
        Ok(()) | Err(_) => Err(TransportError::AddressInUse { endpoint: endpoint.clone() }),
    }
}

/// Connects without waiting.
fn knock(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

fn bind_error(endpoint: &Endpoint, source: io::Error) -> TransportError {
    let endpoint = endpoint.clone();
    match source.kind() {
        io::ErrorKind::AddrInUse => TransportError::AddressInUse { endpoint },
        io::ErrorKind::AddrNotAvailable => TransportError::NoSuchAddress { endpoint },
        io::ErrorKind::PermissionDenied => TransportError::PermissionDenied { endpoint },
        io::ErrorKind::NotFound => TransportError::NoSuchDirectory { endpoint },
        _ => TransportError::Io { endpoint, source },
    }
}

/// Connections that wait to be accepted: a thousand workers that redial at once after a restart find room.
const BACKLOG: i32 = 1024;

/// How long a peer may leave sent bytes unacknowledged or keep its window closed before the system ends its connection.
/// Without it, what was queued for a peer that never reads would stay until that peer's process ends. Far longer than
/// any pause of a healthy peer, whose I/O thread always reads.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// A stale file is removed once; another process that takes the path meanwhile wins.
const LINK_ATTEMPTS: usize = 2;

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

    #[test]
    fn an_address_in_use_is_not_passed_over_for_another_one() {
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
