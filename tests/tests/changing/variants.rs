//! Variants of an enum that is an argument, a reply or an error, or a part of one.

/// A new variant at the end.
mod added_last {
    crate::reshape! {
        "variants::added_last",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Start,
                Stop,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Start,
                Stop,
                Pause,
                Wait(u8),
            }
        }
        old to new {
            Job::Start => Works("Start"), Works("Start");
            Job::Stop => Works("Stop"), Works("Stop");
        }
        new to old {
            Job::Stop => Works("Stop"), Works("Stop");
            Job::Pause => Refused("2"), Refused("Pause");
            Job::Wait(1) => Refused("3"), Refused("Wait");
        }
    }
}

/// A new variant before others.
mod added_before_others {
    crate::reshape! {
        "variants::added_before_others",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Start,
                Stop,
                Wait { time: u8 },
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Start,
                Pause,
                Stop,
                Wait { time: u8 },
            }
        }
        old to new {
            Job::Start => Works("Start"), Works("Start");
            Job::Stop => Wrong("Pause"), Works("Stop");
            Job::Wait { time: 5 } => Refused("left over"), Works("Wait { time: 5 }");
        }
        new to old {
            Job::Start => Works("Start"), Works("Start");
            Job::Pause => Wrong("Stop"), Refused("Pause");
            Job::Wait { time: 5 } => Refused("3"), Works("Wait { time: 5 }");
        }
    }
}

/// A removed variant.
mod removed {
    crate::reshape! {
        "variants::removed",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Start,
                Pause,
                Stop,
                Wait { time: u8 },
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Start,
                Stop,
                Wait { time: u8 },
            }
        }
        old to new {
            Job::Start => Works("Start"), Works("Start");
            Job::Pause => Wrong("Stop"), Refused("Pause");
            Job::Wait { time: 5 } => Refused("3"), Works("Wait { time: 5 }");
        }
        new to old {
            Job::Start => Works("Start"), Works("Start");
            Job::Stop => Wrong("Pause"), Works("Stop");
            Job::Wait { time: 5 } => Refused("left over"), Works("Wait { time: 5 }");
        }
    }
}

/// A removed variant at the end.
mod removed_last {
    crate::reshape! {
        "variants::removed_last",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Start,
                Stop,
                Pause,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Start,
                Stop,
            }
        }
        old to new {
            Job::Start => Works("Start"), Works("Start");
            Job::Stop => Works("Stop"), Works("Stop");
            Job::Pause => Refused("2"), Refused("Pause");
        }
        new to old {
            Job::Start => Works("Start"), Works("Start");
            Job::Stop => Works("Stop"), Works("Stop");
        }
    }
}

/// The same variants in another order.
mod reordered {
    crate::reshape! {
        "variants::reordered",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Start,
                Stop,
                Wait { time: u8 },
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Stop,
                Wait { time: u8 },
                Start,
            }
        }
        old to new {
            Job::Start => Wrong("Stop"), Works("Start");
            Job::Stop => Refused("end within"), Works("Stop");
            Job::Wait { time: 5 } => Refused("left over"), Works("Wait { time: 5 }");
        }
        new to old {
            Job::Start => Refused("end within"), Works("Start");
            Job::Stop => Wrong("Start"), Works("Stop");
            Job::Wait { time: 5 } => Refused("left over"), Works("Wait { time: 5 }");
        }
    }
}

/// A renamed variant.
mod renamed {
    crate::reshape! {
        "variants::renamed",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Start,
                Stop,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Start,
                Halt,
            }
        }
        old to new {
            Job::Start => Works("Start"), Works("Start");
            Job::Stop => Works("Halt"), Refused("Stop");
        }
        new to old {
            Job::Start => Works("Start"), Works("Start");
            Job::Halt => Works("Stop"), Refused("Halt");
        }
    }
}

/// A renamed variant with its old name as an alias.
mod renamed_with_alias {
    crate::reshape! {
        "variants::renamed_with_alias",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Start,
                Stop,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Start,
                #[serde(alias = "Stop")]
                Halt,
            }
        }
        old to new {
            Job::Start => Works("Start"), Works("Start");
            Job::Stop => Works("Halt"), Works("Halt");
        }
        new to old {
            Job::Start => Works("Start"), Works("Start");
            Job::Halt => Works("Stop"), Refused("Halt");
        }
    }
}

/// A new variant, for a reader that accepts any.
mod added_where_others_are_expected {
    crate::reshape! {
        "variants::added_where_others_are_expected",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Start,
                #[serde(other)]
                Other,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Start,
                Stop,
                #[serde(other)]
                Other,
            }
        }
        old to new {
            Job::Start => Works("Start"), Works("Start");
            Job::Other => Wrong("Stop"), Works("Other");
        }
        new to old {
            Job::Start => Works("Start"), Works("Start");
            Job::Stop => Works("Other"), Works("Other");
        }
    }
}

/// A variant with a new field.
mod given_a_field {
    crate::reshape! {
        "variants::given_a_field",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Start,
                Stop,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Start,
                Stop { at: u8 },
            }
        }
        old to new {
            Job::Start => Works("Start"), Works("Start");
            Job::Stop => Refused("the bytes end within the value"), Refused("");
        }
        new to old {
            Job::Start => Works("Start"), Works("Start");
            Job::Stop { at: 1 } => Refused("(are both sides built from the same types?)"), Refused("");
        }
    }
}

/// Names for the fields of a tuple variant, in another order.
mod given_names {
    crate::reshape! {
        "variants::given_names",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                /// A width, then a height.
                Rect(u8, u8),
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) enum Job {
                Rect { height: u8, width: u8 },
            }
        }
        old to new {
            Job::Rect(3, 4) => Wrong("Rect { height: 3, width: 4 }"), Wrong("Rect { height: 3, width: 4 }");
        }
        new to old {
            Job::Rect { height: 4, width: 3 } => Wrong("Rect(4, 3)"), Refused("map");
        }
    }
}
