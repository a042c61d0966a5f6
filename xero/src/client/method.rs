//! The method of a call.

use std::{fmt, sync::Arc};

/// The called method.
#[derive(Clone, Debug)]
pub(crate) struct Method {
    pub(crate) service: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) fingerprint: u64,
    /// The caller's signature; empty for dynamic calls.
    pub(crate) signature: &'static str,
    /// The caller's version of the service.
    pub(crate) version: u32,
}

/// As `Service.method`.
impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.service, self.name)
    }
}
