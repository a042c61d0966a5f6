//! The common part of chaos, soak and the container tests: a service whose replies can be checked, the roles of
//! processes, their records, and the judge of these.

pub mod account;
pub mod child;
pub mod crew;
pub mod figures;
pub mod ledger;
pub mod member;
pub mod record;
pub mod role;
pub mod steady;
pub mod terms;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use xero::Context;

use self::record::{Notes, Record};

/// The largest text of a call or a reply: the digits of pi, and more than any segment, buffer or window.
pub const TEXT_BYTES_MAX: usize = 314_159;

/// A service whose calls and replies show their owner.
#[xero::service]
pub trait Load {
    /// Checks the text, waits, and replies with a text of the ordered length.
    #[xero(idempotent)]
    async fn again(&self, cx: &Context, order: Order, text: &str) -> Result<Receipt, String>;
    /// The same, at most once.
    async fn once(&self, cx: &Context, order: Order, text: &str) -> Result<Receipt, String>;
}

/// The order of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The call's number, from which its text and its reply's text are made.
    pub number: u64,
    /// The length of the call's text, in bytes.
    pub text_bytes: usize,
    /// The length of the reply's text, in bytes.
    pub reply_bytes: usize,
    /// The duration of the procedure, in milliseconds.
    pub millis: u64,
}

/// The reply of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The order of the call.
    pub order: Order,
    /// The attempt that replied.
    pub attempt: u8,
    /// The text.
    pub text: String,
}

/// The text of that call, unique by call and by length.
pub fn text(number: u64, bytes: usize) -> String {
    let block = format!("{number:016x}");
    let mut text = block.repeat(bytes / block.len() + 1);
    text.truncate(bytes);
    text
}

impl Order {
    /// The text of its call.
    pub fn text(&self) -> String {
        text(self.number, self.text_bytes)
    }

    /// Checks a reply to it.
    ///
    /// # Errors
    /// When the reply belongs to another call, or is incomplete.
    pub fn check(&self, receipt: &Receipt) -> Result<(), String> {
        let Receipt { order, text: reply, .. } = receipt;
        if order != self {
            return Err(format!("the reply to {self:?} is one to {order:?}"));
        }
        match *reply == text(self.number, self.reply_bytes) {
            true => Ok(()),
            false => Err(format!("the reply to {self:?} has a text of {} bytes that is not its own", reply.len())),
        }
    }
}

/// Serves [`Load`].
#[derive(Debug)]
pub struct Porter {
    notes: Notes,
}

impl Porter {
    /// One that notes each run there before anything else.
    pub fn noting(notes: Notes) -> Self {
        Self { notes }
    }

    async fn serve(&self, cx: &Context, order: Order, given: &str) -> Result<Receipt, String> {
        let record = Record::ran(order.number, cx.attempt(), cx.worker_id());
        self.notes.note(&record).map_err(|error| error.to_string())?;
        if given != order.text() {
            return Err(format!("{order:?} came with a text of {} bytes that is not its own", given.len()));
        }
        sleep(Duration::from_millis(order.millis)).await;
        Ok(Receipt { order, attempt: cx.attempt(), text: text(order.number, order.reply_bytes) })
    }
}

#[xero::worker]
impl Load for Porter {
    async fn again(&self, cx: &Context, order: Order, text: &str) -> Result<Receipt, String> {
        self.serve(cx, order, text).await
    }

    async fn once(&self, cx: &Context, order: Order, text: &str) -> Result<Receipt, String> {
        self.serve(cx, order, text).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misdirected_and_incomplete_replies_are_found() {
        let order = Order { number: 7, text_bytes: 0, reply_bytes: 100, millis: 0 };
        let reply = |number, bytes| Receipt { order: Order { number, ..order }, attempt: 1, text: text(number, bytes) };
        assert_eq!(order.check(&reply(7, 100)), Ok(()));
        assert!(order.check(&reply(8, 100)).is_err());
        assert!(order.check(&reply(7, 99)).is_err());
        assert!(order.check(&Receipt { text: text(8, 100), ..reply(7, 100) }).is_err());
    }
}
