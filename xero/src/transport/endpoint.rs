//! Transport addresses: their text form, and the mistakes in a malformed text.

use std::{
    convert::Infallible,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// The address where a client or broker listens, and which others dial.
///
/// | text | meaning |
/// |---|---|
/// | `tcp://127.0.0.1:5550`, `tcp://[::1]:5550` | one address |
/// | `tcp://broker.local:5550` | a host name, looked up anew for every connection |
/// | `tcp://*:5550` | every interface of this machine, IPv6 and IPv4; only for binding |
/// | `tcp://127.0.0.1:0` | a port that the system chooses; only for binding |
/// | `ipc:///run/app.sock` | a Unix domain socket; an error on other systems |
/// | `inproc://name` | within this process; `inproc://*` binds a name that is free |
///
/// ```
/// # use xero::Endpoint;
/// let endpoint: Endpoint = "tcp://[::1]:5550".parse()?;
/// assert_eq!(endpoint.to_string(), "tcp://[::1]:5550");
/// # Ok::<(), xero::EndpointError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    address: Address,
}

/// An endpoint's parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp { host: Host, port: u16 },
    Ipc { path: String },
    Inproc { name: String },
}

/// The host of a TCP endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    /// Every interface of this machine.
    Any,
    Ip(IpAddr),
    Name(String),
}

/// A malformed endpoint: where the text goes wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an endpoint: {reason} (character {position})")]
pub struct EndpointError {
    text: String,
    position: usize,
    reason: String,
}

impl EndpointError {
    /// The text as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The position of the mistake in characters, from 1; one past the end if something is missing.
    pub fn position(&self) -> usize {
        self.position
    }

    /// What is wrong, and what to write instead.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Lets parameters accept a text or a ready endpoint.
impl From<Infallible> for EndpointError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl Endpoint {
    pub(crate) fn tcp(ip: IpAddr, port: u16) -> Self {
        Self { address: Address::Tcp { host: Host::Ip(ip), port } }
    }

    pub(crate) fn inproc(name: String) -> Self {
        Self { address: Address::Inproc { name } }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Why nobody can connect to this endpoint, if so: it is for binding only, or this system does not know its kind.
    pub(crate) fn undialable(&self) -> Option<&'static str> {
        match &self.address {
            Address::Tcp { host: Host::Any, .. } => Some("`*` is for binding; name the host to connect to"),
            Address::Tcp { port: 0, .. } => Some("port 0 is for binding; give the port that was bound"),
            Address::Ipc { .. } if !cfg!(unix) => Some(NO_IPC),
            Address::Inproc { name } if name == ANY => Some("`*` is for binding; give the name that was bound"),
            _ => None,
        }
    }

    /// Whether both are TCP endpoints with the same port, which is not port 0.
    pub(crate) fn shares_port(&self, other: &Self) -> bool {
        let port = |address: &Address| match address {
            Address::Tcp { port, .. } if *port != 0 => Some(*port),
            _ => None,
        };
        port(&self.address).is_some_and(|own| port(&other.address) == Some(own))
    }

    /// Whether two binds of it give two endpoints, because the system chooses the exact one.
    pub(crate) fn is_chosen_by_the_system(&self) -> bool {
        match &self.address {
            Address::Tcp { port, .. } => *port == 0,
            Address::Ipc { .. } => false,
            Address::Inproc { name } => name == ANY,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Address::Ipc { path } => write!(f, "ipc://{path}"),
            Address::Inproc { name } => write!(f, "inproc://{name}"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str(ANY),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        parse(text).map(|address| Self { address }).map_err(|Fault { at, reason }| EndpointError {
            text: text.to_owned(),
            position: text.char_indices().take_while(|(index, _)| *index < at).count() + 1,
            reason,
        })
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: &str) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl TryFrom<&String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: &String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl TryFrom<&Self> for Endpoint {
    type Error = EndpointError;

    fn try_from(endpoint: &Self) -> Result<Self, EndpointError> {
        Ok(endpoint.clone())
    }
}

/// One endpoint or several, as texts.
///
/// ```
/// # use xero::Client;
/// let one = Client::connect("tcp://127.0.0.1:5560")?;
/// let two = Client::connect(["tcp://127.0.0.1:5560", "tcp://127.0.0.1:5561"])?;
/// let named: Vec<String> = std::env::args().skip(1).collect();
/// # let named = vec!["tcp://127.0.0.1:5560".to_owned()];
/// let many = Client::connect(named)?;
/// # Ok::<(), xero::ConnectError>(())
/// ```
pub trait IntoEndpoints {
    /// The texts, in the order in which they were given.
    fn into_endpoints(self) -> Vec<String>;
}

impl IntoEndpoints for &str {
    fn into_endpoints(self) -> Vec<String> {
        vec![self.to_owned()]
    }
}

impl IntoEndpoints for String {
    fn into_endpoints(self) -> Vec<String> {
        vec![self]
    }
}

impl IntoEndpoints for &String {
    fn into_endpoints(self) -> Vec<String> {
        vec![self.clone()]
    }
}

impl<T: AsRef<str>, const N: usize> IntoEndpoints for [T; N] {
    fn into_endpoints(self) -> Vec<String> {
        self.as_slice().into_endpoints()
    }
}

impl<T: AsRef<str>> IntoEndpoints for Vec<T> {
    fn into_endpoints(self) -> Vec<String> {
        self.as_slice().into_endpoints()
    }
}

impl<T: AsRef<str>> IntoEndpoints for &Vec<T> {
    fn into_endpoints(self) -> Vec<String> {
        self.as_slice().into_endpoints()
    }
}

impl<T: AsRef<str>> IntoEndpoints for &[T] {
    fn into_endpoints(self) -> Vec<String> {
        self.iter().map(|text| text.as_ref().to_owned()).collect()
    }
}

/// A mistake, at a byte of the text.
struct Fault {
    at: usize,
    reason: String,
}

fn fault<T>(at: usize, reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { at, reason: reason.into() })
}

fn parse(text: &str) -> Result<Address, Fault> {
    if let Some(at) = text.find(char::is_control).or_else(|| space_at_an_end(text)) {
        return fault(at, "white space is not allowed here; take it out");
    }
    let Some((scheme, rest)) = text.split_once("://") else { return no_scheme(text) };
    let at = text.len() - rest.len();
    match scheme {
        "tcp" => parse_tcp(rest, at),
        "ipc" => parse_ipc(rest, at),
        "inproc" => parse_inproc(rest, at),
        _ if SCHEMES.contains(&scheme.to_ascii_lowercase().as_str()) => {
            fault(0, format!("write the scheme in lower case, `{}://`", scheme.to_ascii_lowercase()))
        }
        _ => fault(0, format!("unknown scheme `{scheme}`; {FORMS}")),
    }
}

fn no_scheme(text: &str) -> Result<Address, Fault> {
    for scheme in SCHEMES {
        if let Some(rest) = text.strip_prefix(scheme)
            && let Some(':' | '/') = rest.chars().next()
        {
            return fault(scheme.len(), format!("write `://` after `{scheme}`"));
        }
    }
    fault(0, format!("the scheme is missing; {FORMS}"))
}

fn parse_tcp(rest: &str, at: usize) -> Result<Address, Fault> {
    if let Some(space) = rest.find(char::is_whitespace) {
        return fault(at + space, "white space is not allowed here; take it out");
    }
    if let Some(slash) = rest.find('/') {
        return fault(at + slash, "nothing may follow the port; write tcp://HOST:PORT");
    }
    let (host, port) = if rest.starts_with('[') { split_bracketed(rest, at)? } else { split_plain(rest, at)? };
    let port = parse_port(port, at + rest.len() - port.len())?;
    Ok(Address::Tcp { host, port })
}

/// Splits `[v6]:port`.
fn split_bracketed(rest: &str, at: usize) -> Result<(Host, &str), Fault> {
    let Some(close) = rest.find(']') else { return fault(at, "the bracket is not closed; write tcp://[IPV6]:PORT") };
    let Ok(ip) = rest[1..close].parse::<Ipv6Addr>() else {
        return fault(at + 1, "this is not an IPv6 address; brackets hold one, as in tcp://[::1]:5550");
    };
    match rest[close + 1..].strip_prefix(':') {
        Some(port) => Ok((Host::Ip(ip.into()), port)),
        None => fault(at + close + 1, "the port is missing; write it after the bracket, as in tcp://[::1]:5550"),
    }
}

/// Splits `host:port` at its only colon.
fn split_plain(rest: &str, at: usize) -> Result<(Host, &str), Fault> {
    let Some((host, port)) = rest.rsplit_once(':') else {
        return if rest.is_empty() {
            fault(at, "the host is missing; write tcp://HOST:PORT")
        } else {
            fault(at + rest.len(), format!("the port is missing; write it after a colon, as in tcp://{rest}:5550"))
        };
    };
    if host.contains(':') {
        let is_ip = |text: &str| text.parse::<Ipv6Addr>().is_ok();
        return if is_ip(host) {
            fault(at, format!("write an IPv6 address in brackets, as in tcp://[{host}]:{port}"))
        } else if is_ip(rest) {
            fault(at, format!("write an IPv6 address in brackets and a port after it, as in tcp://[{rest}]:5550"))
        } else {
            fault(at + host.find(':').unwrap_or(0), "one colon too many; write tcp://HOST:PORT")
        };
    }
    Ok((parse_host(host, at)?, port))
}

fn parse_host(host: &str, at: usize) -> Result<Host, Fault> {
    if host.is_empty() {
        return fault(at, "the host is missing; write a name or an address, or `*` to bind every interface");
    }
    if host == ANY {
        return Ok(Host::Any);
    }
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return match host.parse::<Ipv4Addr>() {
            Ok(ip) => Ok(Host::Ip(ip.into())),
            Err(_) => fault(at, "this is not an IPv4 address; write four numbers up to 255, as in 127.0.0.1"),
        };
    }
    if let Some(odd) = host.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))) {
        return fault(at + odd, "a host name holds letters, digits, `-`, `.` and `_`; write others as punycode");
    }
    if host.len() > HOST_NAME_BYTES_MAX {
        return fault(at + HOST_NAME_BYTES_MAX, format!("a host name has at most {HOST_NAME_BYTES_MAX} characters"));
    }
    Ok(Host::Name(host.to_owned()))
}

fn parse_port(port: &str, at: usize) -> Result<u16, Fault> {
    if port.is_empty() {
        return fault(at, "the port is missing; write a number after the colon");
    }
    if let Some(odd) = port.find(|c: char| !c.is_ascii_digit()) {
        return fault(at + odd, "a port is a number from 1 to 65535, or 0 to let the system choose one");
    }
    port.parse().or_else(|_| fault(at, "the port is above 65535; write one from 1 to 65535"))
}

fn parse_ipc(path: &str, at: usize) -> Result<Address, Fault> {
    match path.as_bytes() {
        [] => fault(at, "the path is missing; write ipc://PATH, as in ipc:///tmp/app.sock"),
        b"*" | [b'@', ..] => {
            fault(at, "only sockets with a path of their own are supported; write ipc:///tmp/app.sock")
        }
        [.., b'/'] => fault(at + path.len(), "the path names a directory; add a file name, as in ipc:///tmp/app.sock"),
        bytes if bytes.len() > IPC_PATH_BYTES_MAX => fault(
            at + path.floor_char_boundary(IPC_PATH_BYTES_MAX),
            format!("the path has {} bytes, a socket's at most {IPC_PATH_BYTES_MAX}; use a shorter one", bytes.len()),
        ),
        _ => Ok(Address::Ipc { path: path.to_owned() }),
    }
}

fn parse_inproc(name: &str, at: usize) -> Result<Address, Fault> {
    if name.is_empty() {
        return fault(at, "the name is missing; write inproc://NAME");
    }
    if let Some(space) = name.find(char::is_whitespace) {
        return fault(at + space, "white space is not allowed here; take it out");
    }
    if name.len() > HOST_NAME_BYTES_MAX {
        let end = name.floor_char_boundary(HOST_NAME_BYTES_MAX);
        return fault(at + end, format!("a name has at most {HOST_NAME_BYTES_MAX} bytes; use a shorter one"));
    }
    Ok(Address::Inproc { name: name.to_owned() })
}

fn space_at_an_end(text: &str) -> Option<usize> {
    if text.starts_with(char::is_whitespace) {
        return Some(0);
    }
    let kept = text.trim_end().len();
    (kept < text.len()).then_some(kept)
}

/// Why `ipc://` does not work without Unix domain sockets.
pub(crate) const NO_IPC: &str = "only Unix systems have ipc:// sockets; use tcp://127.0.0.1:PORT or inproc://NAME";

/// Every interface, or any free name.
pub(crate) const ANY: &str = "*";

const SCHEMES: [&str; 3] = ["tcp", "ipc", "inproc"];

const FORMS: &str = "write tcp://HOST:PORT, ipc://PATH or inproc://NAME";

/// The longest name in DNS (RFC 1035 §2.3.4).
const HOST_NAME_BYTES_MAX: usize = 253;

/// The longest path of a socket file, in bytes.
///
/// It is the shortest limit of the systems we know (104 with its final zero, on macOS), less the seven bytes by which
/// the name of an unfinished socket can exceed its final one (`listen.rs`).
const IPC_PATH_BYTES_MAX: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_back() {
        for text in [
            "tcp://127.0.0.1:5550",
            "tcp://*:5550",
            "tcp://*:0",
            "tcp://[::1]:65535",
            "tcp://[fe80::1]:1",
            "tcp://localhost:5550",
            "tcp://my_broker-1.example.org:5550",
            "ipc:///tmp/with space/app.sock",
            "ipc://relative.sock",
            "inproc://name",
            "inproc://*",
        ] {
            assert_eq!(text.parse::<Endpoint>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn mistakes_are_shown_with_their_place_and_remedy() {
        let long = format!("ipc:///{}", "x".repeat(IPC_PATH_BYTES_MAX));
        for (text, position, words) in [
            ("", 1, "scheme is missing"),
            ("127.0.0.1:5550", 1, "tcp://HOST:PORT"),
            ("tcp:/x", 4, "write `://` after `tcp`"),
            ("tcp//x:1", 4, "write `://` after `tcp`"),
            ("http://x:80", 1, "unknown scheme `http`"),
            ("://x:80", 1, "unknown scheme"),
            ("TCP://x:80", 1, "lower case, `tcp://`"),
            ("tcp://", 7, "host is missing"),
            ("tcp://x", 8, "port is missing"),
            ("tcp://x:", 9, "port is missing"),
            ("tcp://:80", 7, "host is missing"),
            ("tcp://x:65536", 9, "above 65535"),
            ("tcp://x:99999999999999999999", 9, "above 65535"),
            ("tcp://x:80a", 11, "a port is a number"),
            ("tcp://x:-1", 9, "a port is a number"),
            ("tcp://x:80/path", 11, "nothing may follow"),
            ("tcp://::1:80", 7, "tcp://[::1]:80"),
            ("tcp://2001:db8::1", 7, "tcp://[2001:db8::1]:5550"),
            ("tcp://a:b:80", 8, "one colon too many"),
            ("tcp://[::1]", 12, "port is missing"),
            ("tcp://[::1", 7, "not closed"),
            ("tcp://[x]:80", 8, "not an IPv6 address"),
            ("tcp://256.0.0.1:80", 7, "not an IPv4 address"),
            ("tcp://user@x:80", 11, "a host name holds"),
            ("tcp://bücher.example:80", 8, "punycode"),
            ("tcp://x: 80", 9, "white space"),
            (" tcp://x:80", 1, "white space"),
            ("tcp://x:80\n", 11, "white space"),
            ("ipc://", 7, "path is missing"),
            ("ipc://@name", 7, "with a path of their own"),
            ("ipc:///tmp/", 12, "names a directory"),
            (long.as_str(), 103, "at most 96"),
            ("inproc://", 10, "name is missing"),
            ("inproc://a b", 11, "white space"),
        ] {
            let error = text.parse::<Endpoint>().expect_err(text);
            assert_eq!(error.position(), position, "{error}");
            assert!(error.reason().contains(words), "{error}");
            assert!(error.to_string().starts_with(&format!("{text:?} is not an endpoint: ")), "{error}");
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic() {
        let pieces =
            ["tcp", "ipc", "inproc", "://", ":", "/", "[", "]", "::1", "*", "80", "ü", "\u{1F600}", " ", "@", "x"];
        let long = "ü".repeat(300);
        for a in pieces {
            for b in pieces {
                for c in pieces {
                    for d in [c, &long, ""] {
                        let _ = format!("{a}{b}{c}{d}").parse::<Endpoint>();
                        let _ = format!("tcp://{a}{b}{c}{d}").parse::<Endpoint>();
                        let _ = format!("ipc://{a}{b}{c}{d}").parse::<Endpoint>();
                    }
                }
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn socket_files_can_be_dialed_on_unix() {
        assert_eq!("ipc:///tmp/app.sock".parse::<Endpoint>().expect("an endpoint").undialable(), None);
    }

    #[test]
    fn endpoints_for_binding_only_say_so() {
        for text in ["tcp://*:5550", "tcp://127.0.0.1:0", "inproc://*"] {
            let endpoint = text.parse::<Endpoint>().expect(text);
            assert!(endpoint.undialable().is_some_and(|reason| reason.contains("for binding")), "{text}");
        }
    }
}
