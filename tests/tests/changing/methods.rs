//! Methods that are added, removed, renamed or declared differently.

/// A new method.
mod added {
    crate::meet! {
        "methods::added",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn ping(&self) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn ping(&self) -> u8 {
                    1
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn ping(&self) -> u8;
                async fn pong(&self) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn ping(&self) -> u8 {
                    1
                }
                async fn pong(&self) -> u8 {
                    2
                }
            }
        }
        old client {
            |old| old.ping() => Works("1"), Works("1");
        }
        new client {
            |new| new.ping() => Works("1"), Works("1");
            |new| new.pong() =>
                Fails("`UnknownMethod`", "service `Service` has no method `pong`; it has `ping`"),
                Fails("`UnknownMethod`", "service `Service` has no method `pong`; it has `ping`");
        }
    }
}

/// A removed method.
mod removed {
    crate::meet! {
        "methods::removed",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn ping(&self) -> u8;
                async fn pong(&self) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn ping(&self) -> u8 {
                    1
                }
                async fn pong(&self) -> u8 {
                    2
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn ping(&self) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn ping(&self) -> u8 {
                    1
                }
            }
        }
        old client {
            |old| old.ping() => Works("1"), Works("1");
            |old| old.pong() =>
                Fails("`UnknownMethod`", "has no method `pong`"), Fails("`UnknownMethod`", "has no method `pong`");
        }
        new client {
            |new| new.ping() => Works("1"), Works("1");
        }
    }
}

/// A renamed method.
mod renamed {
    crate::meet! {
        "methods::renamed",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn ping(&self) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn ping(&self) -> u8 {
                    1
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn pong(&self) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn pong(&self) -> u8 {
                    2
                }
            }
        }
        old client {
            |old| old.ping() =>
                Fails("`UnknownMethod`", "has no method `ping`; it has `pong`"),
                Fails("`UnknownMethod`", "has no method `ping`; it has `pong`");
        }
        new client {
            |new| new.pong() =>
                Fails("`UnknownMethod`", "has no method `pong`"), Fails("`UnknownMethod`", "has no method `pong`");
        }
    }
}

/// A renamed method whose old name calls the new one.
mod renamed_and_kept {
    crate::meet! {
        "methods::renamed_and_kept",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn ping(&self) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn ping(&self) -> u8 {
                    1
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn ping(&self) -> u8 {
                    self.pong().await
                }
                async fn pong(&self) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn pong(&self) -> u8 {
                    2
                }
            }
        }
        old client {
            |old| old.ping() => Works("2"), Works("2");
        }
        new client {
            |new| new.ping() => Works("1"), Works("1");
            |new| new.pong() => Fails("`UnknownMethod`", "`pong`"), Fails("`UnknownMethod`", "`pong`");
        }
    }
}

/// The same methods in another order.
mod reordered {
    crate::meet! {
        "methods::reordered",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn ping(&self) -> u8;
                async fn pong(&self) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn ping(&self) -> u8 {
                    1
                }
                async fn pong(&self) -> u8 {
                    2
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn pong(&self) -> u8;
                async fn ping(&self) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn pong(&self) -> u8 {
                    2
                }
                async fn ping(&self) -> u8 {
                    1
                }
            }
        }
        old client {
            |old| old.ping() => Works("1"), Works("1");
        }
        new client {
            |new| new.ping() => Works("1"), Works("1");
        }
    }
}

/// A method that runs elsewhere.
mod moved {
    crate::meet! {
        "methods::moved",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn ping(&self) -> u8;
                async fn pong(&self) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn ping(&self) -> u8 {
                    1
                }
                async fn pong(&self) -> u8 {
                    2
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                #[xero(inline)]
                async fn ping(&self) -> u8;
                #[xero(blocking)]
                async fn pong(&self) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn ping(&self) -> u8 {
                    1
                }
                async fn pong(&self) -> u8 {
                    2
                }
            }
        }
        old client {
            |old| old.ping() => Works("1"), Works("1");
            |old| old.pong() => Works("2"), Works("2");
        }
        new client {
            |new| new.ping() => Works("1"), Works("1");
            |new| new.pong() => Works("2"), Works("2");
        }
    }
}

/// A method that gets a timeout.
mod given_a_timeout {
    crate::meet! {
        "methods::given_a_timeout",
        old {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                async fn slow(&self) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn slow(&self) -> u8 {
                    tokio::time::sleep(SOON).await;
                    1
                }
            }
        }
        new {
            #[xero::service(name = "Service")]
            pub(super) trait Service {
                #[xero(timeout = "20ms")]
                async fn slow(&self) -> u8;
            }

            pub(super) struct Here;

            #[xero::worker]
            impl Service for Here {
                async fn slow(&self) -> u8 {
                    tokio::time::sleep(SOON).await;
                    1
                }
            }
        }
        old client {
            |old| old.slow() => Works("1"), Works("1");
        }
        new client {
            |new| new.slow() =>
                Fails("`DeadlineExceeded`", "the deadline of 20ms has passed"),
                Fails("`DeadlineExceeded`", "the deadline of 20ms has passed");
        }
    }
}

/// A method that becomes idempotent: its caller's declaration counts.
mod made_idempotent {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use xero::{BoundService, CallError, Client, Codec, Worker};
    use xero_tests::scene::{self, run};

    use super::super::{
        Expected::*,
        outcome,
        page::{NEW_FIRST, OLD_FIRST, Row},
        shared,
    };

    static BEGUN: AtomicUsize = AtomicUsize::new(0);

    /// The number of the attempt; the first one does not end.
    async fn attempt(cx: &xero::Context) -> u8 {
        BEGUN.fetch_add(1, Ordering::SeqCst);
        if cx.attempt() == 1 {
            std::future::pending::<()>().await;
        }
        cx.attempt()
    }

    mod old {
        use xero::Context;

        #[xero::service]
        pub(super) trait Service {
            async fn run(&self, cx: &Context) -> u8;
        }

        pub(super) struct Here;

        #[xero::worker]
        impl Service for Here {
            async fn run(&self, cx: &Context) -> u8 {
                super::attempt(cx).await
            }
        }
    }

    mod new {
        use xero::Context;

        #[xero::service]
        pub(super) trait Service {
            #[xero(idempotent)]
            async fn run(&self, cx: &Context) -> u8;
        }

        pub(super) struct Here;

        #[xero::worker]
        impl Service for Here {
            async fn run(&self, cx: &Context) -> u8 {
                super::attempt(cx).await
            }
        }
    }

    /// The outcome of a call whose first worker leaves before it has ended, with a second worker there.
    async fn left_by_its_worker(
        service: BoundService,
        call: impl Fn(&Client) -> xero::Call<u8, xero::Never>,
    ) -> Result<u8, CallError<xero::Never>> {
        let client = scene::client().await;
        let start = || {
            let worker = Worker::connect(client.endpoint()).drain_timeout(Duration::from_millis(1));
            worker.serve(service.clone()).start().expect("starts")
        };
        let first = start();
        scene::joined(&client, &first).await;
        let begun = BEGUN.load(Ordering::SeqCst);
        let call = call(&client).timeout(scene::PATIENCE).start();
        scene::eventually("it runs", async || BEGUN.load(Ordering::SeqCst) > begun).await;
        let second = start();
        scene::joined(&client, &second).await;
        first.drain().await;
        call.await
    }

    #[test]
    fn meets() {
        run(async {
            let mut row = Row::of("methods::made_idempotent");
            for codec in Codec::ALL {
                let result = left_by_its_worker(new::Service::into_service(shared(new::Here)), |client| {
                    old::ServiceClient::new(client).with_codec(codec).run()
                });
                let expected = Fails("`Refused`", "the procedure may have run");
                row.see(OLD_FIRST, codec, outcome("old client", expected, result.await));
                let result = left_by_its_worker(old::Service::into_service(shared(old::Here)), |client| {
                    new::ServiceClient::new(client).with_codec(codec).run()
                });
                row.see(NEW_FIRST, codec, outcome("new client", Works("2"), result.await));
            }
            row.check();
        });
    }
}
