//! How calls fail.

use crate::proto::{
    frame::TooLarge,
    message::{Codec, ErrorReply, Names},
};

/// How a call ended without a final reply. `maybe_executed` says whether the procedure may have run.
#[derive(Clone, Debug, PartialEq)]
pub enum CallFailure {
    /// The worker answered with an error.
    Remote(ErrorReply),
    /// The deadline passed.
    DeadlineExceeded {
        /// Whether a worker had the request.
        maybe_executed: bool,
    },
    /// No live worker offered the service until the deadline.
    NoWorker {
        /// The services that live workers do offer.
        offered: Names,
        /// Whether a worker, or a broker, was connected.
        is_connected: bool,
    },
    /// No live worker can take the call any more, and it may not wait here for one.
    NotOffered {
        /// Whether an earlier attempt may have run.
        maybe_executed: bool,
        /// The alternatives on offer: services, or the methods of this service.
        offered: Names,
    },
    /// Live workers have the method, but none reads the codec of the arguments.
    CodecNotRead {
        /// The codec of the arguments.
        codec: Codec,
        /// The codecs that they do read.
        read: Vec<Codec>,
    },
    /// Live workers offer the service, but none has the method.
    UnknownMethod {
        /// The methods they do offer.
        offered: Names,
    },
    /// The worker was lost before its reply, and the call could not be retried.
    WorkerLost {
        /// Whether the worker may have run it.
        maybe_executed: bool,
        /// The number of workers that were asked.
        attempts: u8,
    },
    /// Too many calls wait already, or the call may not wait and every worker is busy.
    Overloaded {
        /// The number of waiting calls.
        waiting: usize,
        /// The most waiting calls; `None` if the call may not wait.
        waiting_max: Option<usize>,
    },
    /// The arguments exceed the dispatcher's or the worker's limit.
    TooLarge(TooLarge),
    /// A partial reply is missing, so the order of later ones is unknown.
    PartialsLost {
        /// The partial replies that the worker has sent.
        sent: u32,
        /// Those that arrived in order.
        received: u32,
    },
    /// More partial replies arrived than the client keeps unread.
    PartialsUnread {
        /// Those that arrived.
        received: u32,
    },
    /// A reply was unreadable.
    UnreadableReply {
        /// What is wrong with it.
        reason: String,
    },
    /// The dispatcher was closed.
    Closed {
        /// Whether a worker had the request.
        maybe_executed: bool,
    },
}

/// The message of an overloaded call: the full bound and its setters. `place` says where calls wait, such as ` at the
/// broker`.
pub(crate) fn overloaded(waiting: usize, waiting_max: Option<usize>, place: &str) -> String {
    let whose = if place.is_empty() { "" } else { "its " };
    match waiting_max {
        Some(1) => format!("1 call waits for a worker{place} already; raise {whose}`waiting_max`"),
        Some(max) => format!("{max} calls wait for a worker{place} already; raise {whose}`waiting_max`"),
        None => {
            let others = if waiting == 1 { "1 other waits".to_owned() } else { format!("{waiting} others wait") };
            format!(
                "every worker's `concurrency` or `window_bytes` is used up, or a `worker_choice` of yours took none, and \
                 the call does not wait; {others}{place}"
            )
        }
    }
}

/// The message for a codec that no worker reads, with the codecs that they read.
pub(crate) fn codec_not_read(codec: Codec, read: &[Codec]) -> String {
    let read: Vec<_> = read.iter().map(Codec::to_string).collect();
    let read = if read.is_empty() { "no known codec".to_owned() } else { read.join(", ") };
    format!(
        "the arguments are in {codec}, and the workers that offer the method read {read}: choose a codec that they read, or \
         build them with the feature of this one"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_waits_and_several_wait() {
        let full = |max| overloaded(max, Some(max), " at the broker");
        assert_eq!(full(1), "1 call waits for a worker at the broker already; raise its `waiting_max`");
        assert_eq!(full(2), "2 calls wait for a worker at the broker already; raise its `waiting_max`");
        let busy = overloaded(0, None, "");
        assert!(
            busy.contains("or a `worker_choice` of yours took none, ") && busy.ends_with("; 0 others wait"),
            "{busy}"
        );
        assert!(overloaded(1, None, "").ends_with("; 1 other waits"));
        assert!(overloaded(2, None, "").ends_with("; 2 others wait"));
    }
}
