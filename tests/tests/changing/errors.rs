//! The method's own error.

/// A new error type.
mod added {
    crate::meet! {
        "errors::added",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, fail: bool) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, fail: bool) -> u8 {
                    if fail { 0 } else { 1 }
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, fail: bool) -> Result<u8, String>;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, fail: bool) -> Result<u8, String> {
                    if fail { Err("x".to_owned()) } else { Ok(1) }
                }
            }
        }
        old client {
            |old| old.run(false) => Fails("`SignatureMismatch`", ""), Works("1");
            |old| old.run(true) =>
                Fails("`SignatureMismatch`", ""),
                Fails("`InvalidReply`", "the method has no error type, but the worker sent an error");
        }
        new client {
            |new| new.run(false) => Fails("`SignatureMismatch`", "the worker has `run(fail: bool) -> u8`"), Works("1");
        }
    }
}

/// A removed error type.
mod removed {
    crate::meet! {
        "errors::removed",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, fail: bool) -> Result<u8, String>;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, fail: bool) -> Result<u8, String> {
                    if fail { Err("x".to_owned()) } else { Ok(1) }
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, fail: bool) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, fail: bool) -> u8 {
                    if fail { 0 } else { 1 }
                }
            }
        }
        old client {
            |old| old.run(false) => Fails("`SignatureMismatch`", ""), Works("1");
        }
        new client {
            |new| new.run(false) => Fails("`SignatureMismatch`", ""), Works("1");
            |new| new.run(true) =>
                Fails("`SignatureMismatch`", ""), Fails("`InvalidReply`", "the method has no error type");
        }
    }
}

/// Another error type.
mod retyped {
    crate::meet! {
        "errors::retyped",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, fail: bool) -> Result<u8, String>;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, fail: bool) -> Result<u8, String> {
                    if fail { Err("x".to_owned()) } else { Ok(1) }
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, fail: bool) -> Result<u8, u16>;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, fail: bool) -> Result<u8, u16> {
                    if fail { Err(7) } else { Ok(1) }
                }
            }
        }
        old client {
            |old| old.run(false) => Fails("`SignatureMismatch`", ""), Works("1");
            |old| old.run(true) => Fails("`SignatureMismatch`", ""), Fails("`InvalidReply`", "`String`");
        }
        new client {
            |new| new.run(false) => Fails("`SignatureMismatch`", ""), Works("1");
            |new| new.run(true) => Fails("`SignatureMismatch`", ""), Fails("`InvalidReply`", "`u16`");
        }
    }
}
