//! Arguments that are added, removed, renamed or moved.

/// A new required argument.
mod added {
    crate::meet! {
        "arguments::added",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: u8) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: u8) -> String {
                    format!("{a}")
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: u8, b: u8) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: u8, b: u8) -> String {
                    format!("{a} {b}")
                }
            }
        }
        old client {
            |old| old.run(1) =>
                Fails("`SignatureMismatch`", "`run(a: u8) -> String`, the worker has `run(a: u8, b: u8) -> String`"),
                Fails("`InvalidArguments`", "the argument `b` is missing");
        }
        new client {
            |new| new.run(1, 2) =>
                Fails("`SignatureMismatch`", ""), Fails("`InvalidArguments`", "there is no argument `b`; there is `a`");
        }
    }
}

/// A new optional argument at the end.
mod added_optional_last {
    crate::meet! {
        "arguments::added_optional_last",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: u8) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: u8) -> String {
                    format!("{a}")
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: u8, b: Option<u8>, #[xero(default)] c: u8) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: u8, b: Option<u8>, c: u8) -> String {
                    format!("{a} {b:?} {c}")
                }
            }
        }
        old client {
            |old| old.run(1) => Works("1 None 0"), Works("1 None 0");
        }
        new client {
            |new| new.run(1, None, 0) =>
                Fails("`SignatureMismatch`", ""), Fails("`InvalidArguments`", "there is no argument `b`");
        }
    }
}

/// A new argument at the end whose type is an alias of an option.
mod added_alias_last {
    crate::meet! {
        "arguments::added_alias_last",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: u8) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: u8) -> String {
                    format!("{a}")
                }
            }
        }
        new {
            type Maybe = Option<u8>;

            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: u8, b: Maybe) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: u8, b: Maybe) -> String {
                    format!("{a} {b:?}")
                }
            }
        }
        old client {
            |old| old.run(1) => Fails("`SignatureMismatch`", ""), Works("1 None");
        }
        new client {
            |new| new.run(1, None) =>
                Fails("`SignatureMismatch`", ""), Fails("`InvalidArguments`", "there is no argument `b`");
        }
    }
}

/// A new optional argument before another one.
mod added_optional_before_others {
    crate::meet! {
        "arguments::added_optional_before_others",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: u8) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: u8) -> String {
                    format!("{a}")
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, b: Option<u8>, a: u8) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, b: Option<u8>, a: u8) -> String {
                    format!("{a} {b:?}")
                }
            }
        }
        old client {
            |old| old.run(1) => Fails("`SignatureMismatch`", ""), Works("1 None");
        }
        new client {
            |new| new.run(None, 1) =>
                Fails("`SignatureMismatch`", ""), Fails("`InvalidArguments`", "there is no argument `b`");
        }
    }
}

/// A removed argument.
mod removed {
    crate::meet! {
        "arguments::removed",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: u8, b: u8) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: u8, b: u8) -> String {
                    format!("{a} {b}")
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: u8) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: u8) -> String {
                    format!("{a}")
                }
            }
        }
        old client {
            |old| old.run(1, 2) =>
                Fails("`SignatureMismatch`", ""), Fails("`InvalidArguments`", "there is no argument `b`; there is `a`");
        }
        new client {
            |new| new.run(1) =>
                Fails("`SignatureMismatch`", ""), Fails("`InvalidArguments`", "the argument `b` is missing");
        }
    }
}

/// A removed optional argument at the end.
mod removed_optional_last {
    crate::meet! {
        "arguments::removed_optional_last",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: u8, #[xero(default)] b: u8) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: u8, b: u8) -> String {
                    format!("{a} {b}")
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: u8) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: u8) -> String {
                    format!("{a}")
                }
            }
        }
        old client {
            |old| old.run(1, 2) =>
                Fails("`SignatureMismatch`", ""), Fails("`InvalidArguments`", "there is no argument `b`; there is `a`");
        }
        new client {
            |new| new.run(1) => Works("1 0"), Works("1 0");
        }
    }
}

/// A renamed argument.
mod renamed {
    crate::meet! {
        "arguments::renamed",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: u8) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: u8) -> String {
                    format!("{a}")
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, b: u8) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, b: u8) -> String {
                    format!("{b}")
                }
            }
        }
        old client {
            |old| old.run(1) =>
                Fails("`SignatureMismatch`", "the worker has `run(b: u8) -> String`"),
                Fails("`InvalidArguments`", "there is no argument `a`; there is `b`");
        }
        new client {
            |new| new.run(1) =>
                Fails("`SignatureMismatch`", ""), Fails("`InvalidArguments`", "there is no argument `b`; there is `a`");
        }
    }
}

/// The same arguments in another order.
mod reordered {
    crate::meet! {
        "arguments::reordered",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: u8, b: u8) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: u8, b: u8) -> String {
                    format!("{a} {b}")
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, b: u8, a: u8) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, b: u8, a: u8) -> String {
                    format!("{a} {b}")
                }
            }
        }
        old client {
            |old| old.run(1, 2) => Fails("`SignatureMismatch`", ""), Works("1 2");
        }
        new client {
            |new| new.run(2, 1) => Fails("`SignatureMismatch`", ""), Works("1 2");
        }
    }
}
