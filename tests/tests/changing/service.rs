//! The service itself.

/// Another version of the service.
mod version_raised {
    crate::meet! {
        "service::version_raised",
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
            #[xero::service(name = "Service", version = 2)]
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
            |old| old.ping() =>
                Fails("`SignatureMismatch`", "the caller has `ping() -> u8`, the worker has `ping() -> u8, version 2`"),
                Works("1");
        }
        new client {
            |new| new.ping() =>
                Fails("`SignatureMismatch`", "the caller has `ping() -> u8, version 2`, the worker has `ping() -> u8`"),
                Works("1");
        }
    }
}

/// A renamed service.
mod renamed {
    crate::meet! {
        "service::renamed",
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
            #[xero::service(name = "Other")]
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
            |old| old.ping().timeout(SOON) =>
                Fails("`NoWorker`", "`Service`: none came within 200ms; live workers offer Other"),
                Fails("`NoWorker`", "live workers offer Other");
        }
        new client {
            |new| new.ping().fail_fast() =>
                Fails("`NoWorker`", "no worker offers the service `Other`: live workers offer Service"),
                Fails("`NoWorker`", "live workers offer Service");
        }
    }
}

/// A renamed trait that keeps the service's name.
mod trait_renamed {
    crate::meet! {
        "service::trait_renamed",
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
        }
        new client {
            |new| new.ping() => Works("1"), Works("1");
        }
    }
}

/// A renamed service, where a worker serves both.
mod renamed_and_kept {
    use xero::{Client, Codec, Worker};
    use xero_tests::scene::{self, run};

    use super::super::{
        Expected::*,
        outcome,
        page::{NEW_FIRST, OLD_FIRST, Row},
        shared,
    };

    mod old {
        #[xero::service]
        pub(super) trait Service {
            async fn ping(&self) -> u8;
        }
    }

    mod new {
        #[xero::service(name = "Other")]
        pub(super) trait Service {
            async fn ping(&self) -> u8;
        }
    }

    struct Here;

    impl old::Service for Here {
        async fn ping(&self) -> u8 {
            1
        }
    }

    impl new::Service for Here {
        async fn ping(&self) -> u8 {
            2
        }
    }

    #[test]
    fn meets() {
        run(async {
            let mut row = Row::of("service::renamed_and_kept");
            let client = Client::bind("inproc://changing-both").await.expect("binds");
            let here = shared(Here);
            let worker = Worker::connect("inproc://changing-both")
                .serve(old::Service::into_service(here.clone()))
                .serve(new::Service::into_service(here))
                .start()
                .expect("starts");
            scene::joined(&client, &worker).await;
            for codec in Codec::ALL {
                let result = old::ServiceClient::new(&client).with_codec(codec).ping().await;
                row.see(OLD_FIRST, codec, outcome("old client", Works("1"), result));
                let result = new::ServiceClient::new(&client).with_codec(codec).ping().await;
                row.see(NEW_FIRST, codec, outcome("new client", Works("2"), result));
            }
            row.check();
        });
    }
}
