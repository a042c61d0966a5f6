//! Arguments whose types change, and a `Context` that is added.

/// An argument of another type.
mod retyped {
    crate::meet! {
        "argument_types::retyped",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: u64) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: u64) -> String {
                    format!("{a}")
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
            |old| old.run(1) => Fails("`SignatureMismatch`", "the caller has `run(a: u64) -> String`"), Works("1");
            |old| old.run(300) => Fails("`SignatureMismatch`", ""), Fails("`InvalidArguments`", "the argument `a`");
        }
        new client {
            |new| new.run(1) => Fails("`SignatureMismatch`", ""), Works("1");
        }
    }
}

/// An argument that becomes an option.
mod made_optional {
    crate::meet! {
        "argument_types::made_optional",
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
                async fn run(&self, a: Option<u8>) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: Option<u8>) -> String {
                    format!("{a:?}")
                }
            }
        }
        old client {
            |old| old.run(1) => Fails("`SignatureMismatch`", ""), Works("Some(1)");
        }
        new client {
            |new| new.run(Some(1)) => Fails("`SignatureMismatch`", ""), Works("1");
            |new| new.run(None) => Fails("`SignatureMismatch`", ""), Fails("`InvalidArguments`", "the argument `a`");
        }
    }
}

/// An argument that gets a default.
mod given_a_default {
    crate::meet! {
        "argument_types::given_a_default",
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
        old client {
            |old| old.run(1, 2) => Works("1 2"), Works("1 2");
        }
        new client {
            |new| new.run(1, 2) => Works("1 2"), Works("1 2");
        }
    }
}

/// An argument that becomes borrowed.
mod borrowed {
    crate::meet! {
        "argument_types::borrowed",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: String, b: Vec<u16>) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: String, b: Vec<u16>) -> String {
                    format!("{a} {b:?}")
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: &str, b: &[u16]) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: &str, b: &[u16]) -> String {
                    format!("{a} {b:?}")
                }
            }
        }
        old client {
            |old| old.run("x".to_owned(), vec![1]) => Works("x [1]"), Works("x [1]");
        }
        new client {
            |new| new.run("x", &[1]) => Works("x [1]"), Works("x [1]");
        }
    }
}

/// Another type of bytes.
mod bytes {
    crate::meet! {
        "argument_types::bytes",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: Vec<u8>) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: Vec<u8>) -> String {
                    format!("{a:?}")
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: bytes::Bytes) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: bytes::Bytes) -> String {
                    format!("{:?}", a.to_vec())
                }
            }
        }
        old client {
            |old| old.run(vec![1]) =>
                Fails("`SignatureMismatch`", "the worker has `run(a: bytes::Bytes) -> String`"), Works("[1]");
        }
        new client {
            |new| new.run(bytes::Bytes::from_static(&[1])) => Fails("`SignatureMismatch`", ""), Works("[1]");
        }
    }
}

/// Another type of bytes under the same alias.
mod bytes_behind_an_alias {
    crate::meet! {
        "argument_types::bytes_behind_an_alias",
        old {
            type Image = Vec<u8>;

            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: Image) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: Image) -> String {
                    format!("{a:?}")
                }
            }
        }
        new {
            type Image = bytes::Bytes;

            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: Image) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: Image) -> String {
                    format!("{:?}", a.to_vec())
                }
            }
        }
        old client {
            |old| old.run(vec![1]) => Works("[1]"), Works("[1]");
        }
        new client {
            |new| new.run(bytes::Bytes::from_static(&[1])) => Works("[1]"), Works("[1]");
        }
    }
}

/// The same type under another name.
mod type_renamed {
    crate::meet! {
        "argument_types::type_renamed",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Id(pub(super) u8);
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: Id) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: Id) -> String {
                    format!("{}", a.0)
                }
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Number(pub(super) u8);
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: Number) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: Number) -> String {
                    format!("{}", a.0)
                }
            }
        }
        old client {
            |old| old.run(old::Id(1)) =>
                Fails("`SignatureMismatch`", "`run(a: Id) -> String`, the worker has `run(a: Number) -> String`"),
                Works("1");
        }
        new client {
            |new| new.run(new::Number(1)) => Fails("`SignatureMismatch`", ""), Works("1");
        }
    }
}

/// The same type under another name that the trait does not see.
mod type_renamed_behind_an_alias {
    crate::meet! {
        "argument_types::type_renamed_behind_an_alias",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Id(pub(super) u8);

            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: Id) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: Id) -> String {
                    format!("{}", a.0)
                }
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Number(pub(super) u8);

            type Id = Number;

            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn run(&self, a: Id) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, a: Id) -> String {
                    format!("{}", a.0)
                }
            }
        }
        old client {
            |old| old.run(old::Id(1)) => Works("1"), Works("1");
        }
        new client {
            |new| new.run(new::Number(1)) => Works("1"), Works("1");
        }
    }
}

/// A new `&Context`, which does not travel.
mod context {
    crate::meet! {
        "argument_types::context",
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
                async fn run(&self, cx: &xero::Context, a: u8) -> String;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn run(&self, _cx: &xero::Context, a: u8) -> String {
                    format!("{a}")
                }
            }
        }
        old client {
            |old| old.run(1) => Works("1"), Works("1");
        }
        new client {
            |new| new.run(1) => Works("1"), Works("1");
        }
    }
}
