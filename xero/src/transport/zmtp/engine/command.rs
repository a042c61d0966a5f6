//! Commands: READY, ERROR, PING, PONG, and those that a ROUTER or DEALER does not know.

use bytes::Bytes;

use super::{
    frame::{Head, Kind},
    limits::{CONTEXT_BYTES_MAX, PROPERTIES_MAX},
    violation::Violation,
};

/// A command that has been read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Ready(Ready),
    Error(String),
    /// With the context that the answer repeats.
    Ping(&'a [u8]),
    Pong,
    Subscription,
    /// Later versions may send commands that this one need not know.
    Unknown,
}

/// The properties of a READY that matter.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) socket_type: String,
    pub(super) identity: Bytes,
}

impl<'a> Command<'a> {
    /// Reads the body of a command frame.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Violation> {
        let mut rest = body;
        let name = take_short(&mut rest)?;
        Ok(match name {
            b"READY" => Self::Ready(read_ready(rest)?),
            b"ERROR" => Self::Error(String::from_utf8_lossy(take_short(&mut rest)?).into_owned()),
            // The first two bytes are the time after which the peer may be dropped; links have leases of their own.
            b"PING" => match rest.get(2..) {
                Some(context) if context.len() <= CONTEXT_BYTES_MAX => Self::Ping(context),
                _ => return Err(Violation::CommandSyntax),
            },
            b"PONG" => Self::Pong,
            b"SUBSCRIBE" | b"CANCEL" => Self::Subscription,
            _ => Self::Unknown,
        })
    }
}

/// A READY frame.
pub(super) fn ready(socket_type: &str, identity: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    for (name, value) in [("Socket-Type", socket_type.as_bytes()), ("Identity", identity)] {
        push_short(&mut data, name.as_bytes());
        data.extend((value.len() as u32).to_be_bytes());
        data.extend(value);
    }
    frame(b"READY", &data)
}

/// An ERROR frame.
pub(super) fn error(reason: &str) -> Vec<u8> {
    let mut data = Vec::new();
    push_short(&mut data, &reason.as_bytes()[..reason.len().min(u8::MAX.into())]);
    frame(b"ERROR", &data)
}

/// A PONG frame.
pub(super) fn pong(context: &[u8]) -> Vec<u8> {
    frame(b"PONG", context)
}

fn frame(name: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + data.len());
    Head { kind: Kind::Command, length: (1 + name.len() + data.len()) as u64 }.write(&mut bytes);
    push_short(&mut bytes, name);
    bytes.extend(data);
    bytes
}

/// Writes a text of at most 255 bytes behind its length.
fn push_short(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.push(u8::try_from(text.len()).expect("a short text"));
    bytes.extend(text);
}

fn read_ready(mut rest: &[u8]) -> Result<Ready, Violation> {
    let mut ready = Ready::default();
    let mut count = 0;
    while !rest.is_empty() {
        count += 1;
        if count > PROPERTIES_MAX {
            return Err(Violation::Properties);
        }
        let name = take_short(&mut rest)?;
        let length = take(&mut rest, 4)?.try_into().map(u32::from_be_bytes).map_err(|_| Violation::CommandSyntax)?;
        let value = take(&mut rest, usize::try_from(length).unwrap_or(usize::MAX))?;
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            ready.socket_type = String::from_utf8_lossy(value).into_owned();
        } else if name.eq_ignore_ascii_case(b"Identity") {
            ready.identity = Bytes::copy_from_slice(value);
        }
    }
    Ok(ready)
}

fn take_short<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Violation> {
    let length = take(rest, 1)?[0];
    take(rest, length.into())
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], Violation> {
    let (taken, after) = rest.split_at_checked(count).ok_or(Violation::CommandSyntax)?;
    *rest = after;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(frame: &[u8]) -> &[u8] {
        &frame[2..]
    }

    #[test]
    fn own_commands_are_read() {
        let expected = Ready { socket_type: "DEALER".to_owned(), identity: Bytes::from_static(b"me") };
        assert_eq!(Command::read(body(&ready("DEALER", b"me"))), Ok(Command::Ready(expected)));
        assert_eq!(Command::read(body(&error("no"))), Ok(Command::Error("no".to_owned())));
        assert_eq!(Command::read(body(&pong(b"context"))), Ok(Command::Pong));
        assert_eq!(error(&"x".repeat(300)).len(), 9 + 6 + 1 + 255);
    }

    #[test]
    fn names_of_properties_ignore_case_and_others_are_skipped() {
        let read = Command::read(b"\x05READY\x0bsocket-TYPE\0\0\0\x06ROUTER\x01x\0\0\0\x01y");
        assert_eq!(read, Ok(Command::Ready(Ready { socket_type: "ROUTER".to_owned(), ..Ready::default() })));
    }

    #[test]
    fn number_of_properties_is_bounded() {
        let with = |count: usize| [&b"\x05READY"[..], &b"\x01x\0\0\0\0".repeat(count)].concat();
        assert!(Command::read(&with(PROPERTIES_MAX)).is_ok());
        assert_eq!(Command::read(&with(PROPERTIES_MAX + 1)), Err(Violation::Properties));
    }

    #[test]
    fn pings_have_a_time_and_a_short_context() {
        assert_eq!(Command::read(b"\x04PING\0\x01"), Ok(Command::Ping(b"")));
        let context = [7; CONTEXT_BYTES_MAX];
        assert_eq!(Command::read(&[b"\x04PING\0\x01", &context[..]].concat()), Ok(Command::Ping(&context)));
        for malformed in [&b"\x04PING"[..], b"\x04PING\0", &[b"\x04PING\0\x01", &[7; 17][..]].concat()] {
            assert_eq!(Command::read(malformed), Err(Violation::CommandSyntax));
        }
    }

    #[test]
    fn broken_structures_are_violations_and_unknown_names_are_not() {
        for malformed in
            [&b""[..], b"\x06READY", b"\x05READY\x01", b"\x05READY\x01x\0\0", b"\x05READY\x01x\xff\xff\xff\xff"]
        {
            assert_eq!(Command::read(malformed), Err(Violation::CommandSyntax), "{malformed:?}");
        }
        assert_eq!(Command::read(b"\x05LATERwhatever"), Ok(Command::Unknown));
        assert_eq!(Command::read(b"\x09SUBSCRIBEtopic"), Ok(Command::Subscription));
        assert_eq!(Command::read(b"\x06CANCELtopic"), Ok(Command::Subscription));
    }
}
