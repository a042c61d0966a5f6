//! Socket files: bound without a gap, removed with their socket, and taken over from dead processes.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Socket, Type};
use uuid::Uuid;

use crate::transport::{endpoint::Endpoint, error::TransportError};

/// Our socket file, removed when dropped unless another process has replaced it.
#[derive(Debug)]
pub(super) struct SocketFile {
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

/// Binds under a temporary name, then links the socket to its path.
///
/// So nobody meets a file that does not listen yet. Removing the temporary name again, as the `zeromq` crate does
/// some time after the end, harms nobody.
pub(super) fn bind_path(endpoint: &Endpoint, path: &Path) -> Result<(UnixListener, SocketFile), TransportError> {
    let failed = |error| TransportError::of_bind(endpoint, error);
    let draft = path.with_file_name(format!(".{:06x}", Uuid::new_v4().as_u128() & 0xff_ffff));
    let listener = UnixListener::bind(&draft).map_err(failed)?;
    let linked = link(endpoint, &draft, path);
    let metadata = fs::symlink_metadata(&draft);
    let _ = fs::remove_file(&draft);
    linked?;
    let metadata = metadata.map_err(failed)?;
    Ok((listener, SocketFile { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() }))
}

/// Gives the socket at `draft` the name `path`, if that is free or left by a dead process.
fn link(endpoint: &Endpoint, draft: &Path, path: &Path) -> Result<(), TransportError> {
    for _ in 0..LINK_ATTEMPTS {
        match fs::hard_link(draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => remove_stale(endpoint, path)?,
            result => return result.map_err(|error| TransportError::of_bind(endpoint, error)),
        }
    }
    Err(TransportError::AddressInUse { endpoint: endpoint.clone() })
}

/// Removes a socket file without a listener.
fn remove_stale(endpoint: &Endpoint, path: &Path) -> Result<(), TransportError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(TransportError::NotASocket { endpoint: endpoint.clone() });
        }
        Ok(_) => {}
        // It disappeared by itself.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(TransportError::of_bind(endpoint, error)),
    }
    match knock(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(TransportError::of_bind(endpoint, error)),
            _ => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(TransportError::of_bind(endpoint, error)),
        // A full backlog also means that a process listens.
        Ok(()) | Err(_) => Err(TransportError::AddressInUse { endpoint: endpoint.clone() }),
    }
}

/// Connects without waiting.
fn knock(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

/// A stale file is removed once; another process that takes the path in between wins.
const LINK_ATTEMPTS: usize = 2;
