//! What each call of a client or stub begins with; a call's own settings come after it.

use std::time::Duration;

use bytes::Bytes;

use crate::proto::message::{Codec, Metadata};

/// Settings that a handle gives to its calls. Clones are cheap.
#[derive(Clone, Debug, Default)]
pub(super) struct Defaults {
    /// Takes precedence over a method's own.
    pub(super) timeout: Option<Duration>,
    pub(super) codec: Option<Codec>,
    pub(super) fail_fast: bool,
    pub(super) metadata: Metadata,
}

impl Defaults {
    pub(super) fn add_metadata(&mut self, key: String, value: &Bytes) {
        add_metadata(&mut self.metadata, key, value);
    }
}

/// Adds a copy of the value: its bytes may have an owner whose `Drop` is user code, which must not run in a turn.
pub(super) fn add_metadata(metadata: &mut Metadata, key: String, value: &Bytes) {
    metadata.insert(key, Bytes::copy_from_slice(value));
}
