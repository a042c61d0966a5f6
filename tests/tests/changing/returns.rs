//! Replies of another type.

/// Another type.
mod retyped {
    crate::meet! {
        "returns::retyped",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self) -> u8 {
                    1
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self) -> u64;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self) -> u64 {
                    300
                }
            }
        }
        old client {
            |old| old.run() =>
                Fails("`SignatureMismatch`", "the caller has `run() -> u8`, the worker has `run() -> u64`"),
                Fails("`InvalidReply`", "300");
        }
        new client {
            |new| new.run() => Fails("`SignatureMismatch`", ""), Works("1");
        }
    }
}

/// A value where `()` was returned.
mod added {
    crate::meet! {
        "returns::added",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self);
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self) {}
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self) -> u8 {
                    1
                }
            }
        }
        old client {
            |old| old.run() =>
                Fails("`SignatureMismatch`", "the caller has `run()`, the worker has `run() -> u8`"),
                Fails("`InvalidReply`", "`()`");
        }
        new client {
            |new| new.run() => Fails("`SignatureMismatch`", ""), Fails("`InvalidReply`", "`u8`");
        }
    }
}

/// A value that becomes an option.
mod made_optional {
    crate::meet! {
        "returns::made_optional",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self) -> u8;
                async fn none(&self) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self) -> u8 {
                    1
                }
                async fn none(&self) -> u8 {
                    0
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self) -> Option<u8>;
                async fn none(&self) -> Option<u8>;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self) -> Option<u8> {
                    Some(2)
                }
                async fn none(&self) -> Option<u8> {
                    None
                }
            }
        }
        old client {
            |old| old.run() => Fails("`SignatureMismatch`", ""), Works("2");
            |old| old.none() => Fails("`SignatureMismatch`", ""), Fails("`InvalidReply`", "`u8`");
        }
        new client {
            |new| new.run() => Fails("`SignatureMismatch`", ""), Works("Some(1)");
        }
    }
}
