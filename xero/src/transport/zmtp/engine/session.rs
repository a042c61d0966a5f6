//! One connection: the handshake, then frames.

use std::mem;

use bytes::Bytes;

use super::{
    body::Body,
    command::{self, Command},
    frame::{Kind, PartialHead},
    greeting::{self, Greeting, Mechanism},
    limits::{COMMAND_BYTES_MAX, Limits},
    message::{Assembly, Received},
    outgoing::Outgoing,
    violation::Violation,
};

/// The socket type of this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Router,
    Dealer,
}

impl Role {
    fn socket_type(self) -> &'static str {
        match self {
            Self::Router => "ROUTER",
            Self::Dealer => "DEALER",
        }
    }

    /// The only socket type that may be at the other end.
    fn counterpart(self) -> &'static str {
        match self {
            Self::Router => Self::Dealer.socket_type(),
            Self::Dealer => Self::Router.socket_type(),
        }
    }
}

/// What a peer has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The handshake is complete.
    Open,
    /// A message has arrived.
    Received(Received),
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    role: Role,
    identity: Bytes,
    stage: Stage,
    head: PartialHead,
    part: Part,
    message: Assembly,
}

#[derive(Debug)]
enum Stage {
    Greeting(Greeting),
    /// Expects READY.
    Ready,
    Open,
}

/// What the next bytes belong to.
#[derive(Debug)]
enum Part {
    Head,
    Command(Body),
    Kept { body: Body, skipped: u64, more: bool },
    Skipped { left: u64, more: bool },
}

impl Session {
    /// Starts a connection by a greeting.
    ///
    /// No ROUTER of ours routes by identity; it only shows a connection that has met itself.
    pub(crate) fn new(role: Role, identity: Bytes, limits: Limits, outgoing: &mut Outgoing) -> Self {
        outgoing.push_control(&greeting::write(MECHANISM, false));
        Self {
            role,
            identity,
            stage: Stage::Greeting(Greeting::new()),
            head: PartialHead::default(),
            part: Part::Head,
            message: Assembly::new(limits),
        }
    }

    /// Takes bytes until something has happened or none are left; answers go to `outgoing`.
    ///
    /// # Errors
    /// What the peer may not do; the connection must end.
    pub(crate) fn receive(&mut self, input: &mut &[u8], outgoing: &mut Outgoing) -> Result<Option<Event>, Violation> {
        if let Stage::Greeting(greeting) = &mut self.stage {
            let Some(Mechanism::Null) = greeting.read(input)? else { return Ok(None) };
            outgoing.push_control(&command::ready(self.role.socket_type(), &self.identity));
            self.stage = Stage::Ready;
        }
        loop {
            match &mut self.part {
                Part::Head => {
                    let Some(head) = self.head.read(input)? else { return Ok(None) };
                    self.part = self.part_after(head.kind, head.length)?;
                }
                Part::Command(body) => {
                    body.take(input);
                    if !body.is_complete() {
                        return Ok(None);
                    }
                    if let Part::Command(body) = mem::replace(&mut self.part, Part::Head)
                        && let Some(event) = self.handle_command(&body.finish(), outgoing)?
                    {
                        return Ok(Some(event));
                    }
                }
                Part::Kept { body, skipped, more } => {
                    body.take(input);
                    if !body.is_complete() {
                        return Ok(None);
                    }
                    let after = Part::Skipped { left: *skipped, more: *more };
                    if let Part::Kept { body, .. } = mem::replace(&mut self.part, after) {
                        self.message.keep(body.finish());
                    }
                }
                Part::Skipped { left, more } => {
                    let taken = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                    *input = &input[taken..];
                    *left -= taken as u64;
                    if *left > 0 {
                        return Ok(None);
                    }
                    let more = *more;
                    self.part = Part::Head;
                    if !more {
                        return Ok(Some(Event::Received(self.message.finish())));
                    }
                }
            }
        }
    }

    /// The buffer of an unfinished large frame: reading into it saves a copy.
    ///
    /// [`Self::receive`] must be called after the read.
    pub(crate) fn body(&mut self) -> Option<&mut Body> {
        match &mut self.part {
            Part::Kept { body, .. } if body.missing() >= DIRECT_BYTES_MIN => Some(body),
            _ => None,
        }
    }

    /// Tells the peer why it is refused, if it can read that.
    pub(crate) fn refuse(&self, violation: &Violation, outgoing: &mut Outgoing) {
        if matches!(self.stage, Stage::Ready) {
            outgoing.push_control(&command::error(&violation.to_string()));
        }
    }

    /// The memory of the unfinished message.
    pub(crate) fn held_bytes(&self) -> usize {
        let under_way = match &self.part {
            Part::Command(body) | Part::Kept { body, .. } => body.capacity(),
            Part::Head | Part::Skipped { .. } => 0,
        };
        self.message.held_bytes() + under_way
    }

    fn part_after(&mut self, kind: Kind, length: u64) -> Result<Part, Violation> {
        match (kind, &self.stage) {
            (Kind::Command, _) => match usize::try_from(length) {
                Ok(length) if length <= COMMAND_BYTES_MAX => Ok(Part::Command(Body::new(length))),
                _ => Err(Violation::Command(length)),
            },
            (Kind::Message { more }, Stage::Open) => {
                let plan = self.message.start(length, more)?;
                Ok(Part::Kept { body: Body::new(plan.kept), skipped: plan.skipped, more })
            }
            (Kind::Message { .. }, _) => Err(Violation::NotReady),
        }
    }

    fn handle_command(&mut self, body: &[u8], outgoing: &mut Outgoing) -> Result<Option<Event>, Violation> {
        let is_open = matches!(self.stage, Stage::Open);
        match Command::read(body)? {
            Command::Ready(_) if is_open => Err(Violation::ReadyRepeated),
            Command::Ready(ready) if !ready.identity.is_empty() && ready.identity == self.identity => {
                Err(Violation::SelfConnected)
            }
            Command::Ready(ready) if ready.socket_type != self.role.counterpart() => {
                Err(Violation::SocketType(ready.socket_type))
            }
            Command::Ready(_) => {
                self.stage = Stage::Open;
                Ok(Some(Event::Open))
            }
            Command::Error(reason) => Err(Violation::Refused(reason)),
            Command::Subscription => Err(Violation::Subscription),
            Command::Ping(_) | Command::Pong | Command::Unknown if !is_open => Err(Violation::NotReady),
            Command::Ping(context) => {
                // A peer that pings and reads nothing must not fill the queue.
                if outgoing.has_room_for_control() {
                    outgoing.push_control(&command::pong(context));
                }
                Ok(None)
            }
            Command::Pong | Command::Unknown => Ok(None),
        }
    }
}

/// The mechanism of this side. CURVE will take a choice of its own here.
const MECHANISM: Mechanism = Mechanism::Null;

/// The least missing part of a frame that is worth a read of its own; less arrives together with what follows.
const DIRECT_BYTES_MIN: usize = 32 * 1024;
