//! Fields of another type.

/// A wider integer, of two bytes or more.
mod widened {
    crate::reshape! {
        "types::widened",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: u32,
                tags: Vec<u8>,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: u64,
                tags: Vec<u8>,
            }
        }
        old to new {
            Job { n: 70_000, tags: vec![] } => Works("Job { n: 70000, tags: [] }"), Works("Job { n: 70000, tags: [] }");
        }
        new to old {
            Job { n: 70_000, tags: vec![] } => Works("Job { n: 70000, tags: [] }"), Works("Job { n: 70000, tags: [] }");
            Job { n: 1 << 40, tags: vec![] } => Refused("an integer is too large for its type"), Refused("n` of");
        }
    }
}

/// A wider integer in place of a byte.
mod byte_widened {
    crate::reshape! {
        "types::byte_widened",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: u8,
                tags: Vec<u8>,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: u32,
                tags: Vec<u8>,
            }
        }
        old to new {
            Job { n: 7, tags: vec![] } => Works("Job { n: 7, tags: [] }"), Works("Job { n: 7, tags: [] }");
            Job { n: 251, tags: vec![2, 0] } => Unsound, Works("Job { n: 251, tags: [2, 0] }");
            Job { n: 128, tags: vec![0] } => Unsound, Works("Job { n: 128, tags: [0] }");
            Job { n: 255, tags: vec![1, 2, 3] } => Unsound, Works("Job { n: 255, tags: [1, 2, 3] }");
        }
        new to old {
            Job { n: 7, tags: vec![] } => Works("Job { n: 7, tags: [] }"), Works("Job { n: 7, tags: [] }");
            Job { n: 300, tags: vec![] } => Unsound, Refused("n` of");
            Job { n: 129, tags: vec![] } => Unsound, Works("Job { n: 129, tags: [] }");
            Job { n: 256, tags: vec![] } => Unsound, Refused("n` of");
        }
    }
}

/// A signed integer in place of an unsigned one.
mod signed {
    crate::reshape! {
        "types::signed",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: u32,
                tags: Vec<u8>,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: i32,
                tags: Vec<u8>,
            }
        }
        old to new {
            Job { n: 7, tags: vec![] } => Wrong("Job { n: -4, tags: [] }"), Works("Job { n: 7, tags: [] }");
        }
        new to old {
            Job { n: 7, tags: vec![] } => Wrong("Job { n: 14, tags: [] }"), Works("Job { n: 7, tags: [] }");
            Job { n: -7, tags: vec![] } => Wrong("Job { n: 13, tags: [] }"), Refused("n` of");
        }
    }
}

/// A field that becomes an option.
mod made_optional {
    crate::reshape! {
        "types::made_optional",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: u8,
                tags: Vec<u8>,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: Option<u8>,
                tags: Vec<u8>,
            }
        }
        old to new {
            Job { n: 0, tags: vec![] } => Wrong("Job { n: None, tags: [] }"), Works("Job { n: Some(0), tags: [] }");
            Job { n: 7, tags: vec![] } =>
                Refused("a byte is neither `None` nor `Some`"), Works("Job { n: Some(7), tags: [] }");
        }
        new to old {
            Job { n: None, tags: vec![] } => Wrong("Job { n: 0, tags: [] }"), Refused("n` of");
            Job { n: Some(0), tags: vec![] } =>
                Refused("(are both sides built from the same types?)"), Works("Job { n: 0, tags: [] }");
        }
    }
}

/// A text in place of a number.
mod text {
    crate::reshape! {
        "types::text",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: u8,
                tags: Vec<u8>,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: String,
                tags: Vec<u8>,
            }
        }
        old to new {
            Job { n: 0, tags: vec![] } => Wrong("Job { n: \"\", tags: [] }"), Refused("n` of");
            Job { n: 7, tags: vec![] } => Refused("the bytes end within the value"), Refused("n` of");
        }
        new to old {
            Job { n: String::new(), tags: vec![] } => Wrong("Job { n: 0, tags: [] }"), Refused("n` of");
            Job { n: "x".to_owned(), tags: vec![] } =>
                Refused("(are both sides built from the same types?)"), Refused("n` of");
        }
    }
}

/// A box or a newtype around a type.
mod wrapped {
    crate::reshape! {
        "types::wrapped",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: u8,
                tags: Vec<u8>,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            struct Id(u8);
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: Box<Id>,
                tags: Vec<u8>,
            }
        }
        old to new {
            Job { n: 7, tags: vec![] } => Works("Job { n: Id(7), tags: [] }"), Works("Job { n: Id(7), tags: [] }");
        }
        new to old {
            Job { n: Box::new(Id(7)), tags: vec![] } =>
                Works("Job { n: 7, tags: [] }"), Works("Job { n: 7, tags: [] }");
        }
    }
}

/// Bytes in place of a list of numbers.
mod serde_bytes {
    crate::reshape! {
        "types::serde_bytes",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: Vec<u8>,
                tags: Vec<u8>,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                #[serde(with = "serde_bytes")]
                n: Vec<u8>,
                tags: Vec<u8>,
            }
        }
        old to new {
            Job { n: vec![1, 200], tags: vec![] } =>
                Works("Job { n: [1, 200], tags: [] }"), Works("Job { n: [1, 200], tags: [] }");
        }
        new to old {
            Job { n: vec![1, 200], tags: vec![] } =>
                Works("Job { n: [1, 200], tags: [] }"), Works("Job { n: [1, 200], tags: [] }");
        }
    }
}

/// A set in place of a list.
mod list {
    crate::reshape! {
        "types::list",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: Vec<u16>,
                tags: Vec<u8>,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: std::collections::BTreeSet<u16>,
                tags: Vec<u8>,
            }
        }
        old to new {
            Job { n: vec![2, 1], tags: vec![] } =>
                Works("Job { n: {1, 2}, tags: [] }"), Works("Job { n: {1, 2}, tags: [] }");
            Job { n: vec![2, 1, 2], tags: vec![] } =>
                Wrong("Job { n: {1, 2}, tags: [] }"), Wrong("Job { n: {1, 2}, tags: [] }");
        }
        new to old {
            Job { n: [1, 2].into(), tags: vec![] } =>
                Works("Job { n: [1, 2], tags: [] }"), Works("Job { n: [1, 2], tags: [] }");
        }
    }
}

/// A float in place of an integer.
mod float {
    crate::reshape! {
        "types::float",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: u64,
                tags: Vec<u8>,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: f64,
                tags: Vec<u8>,
            }
        }
        old to new {
            Job { n: 7, tags: vec![] } => Refused("the bytes end within the value"), Works("Job { n: 7.0, tags: [] }");
            Job { n: 7, tags: vec![0; 7] } => Unsound, Works("Job { n: 7.0, tags: [0, 0, 0, 0, 0, 0, 0] }");
            Job { n: (1 << 53) + 1, tags: vec![] } => Unsound, Wrong("Job { n: 9007199254740992.0, tags: [] }");
        }
        new to old {
            Job { n: 7.0, tags: vec![] } => Refused("(are both sides built from the same types?)"), Refused("n` of");
            Job { n: f64::from_bits(0x0707), tags: vec![] } => Unsound, Refused("n` of");
        }
    }
}

/// A narrower float.
mod narrowed {
    crate::reshape! {
        "types::narrowed",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: f64,
                tags: Vec<u8>,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                n: f32,
                tags: Vec<u8>,
            }
        }
        old to new {
            Job { n: 1.5, tags: vec![] } => Unsound, Works("Job { n: 1.5, tags: [] }");
            Job { n: 0.1 + 0.2, tags: vec![] } => Unsound, Wrong("Job { n: 0.3, tags: [] }");
            Job { n: 1e300, tags: vec![] } => Unsound, Unsound;
            Job { n: f64::from_bits(0x0000_0004_3fc0_0000), tags: vec![] } => Unsound, Wrong("Job { n: 0.0, tags: [] }");
        }
        new to old {
            Job { n: 1.5, tags: vec![] } => Refused("the bytes end within the value"), Works("Job { n: 1.5, tags: [] }");
            Job { n: 1.5, tags: vec![0, 0, 0] } => Unsound, Works("Job { n: 1.5, tags: [0, 0, 0] }");
            Job { n: 1.5, tags: vec![0, 0, 0, 0] } => Unsound, Works("Job { n: 1.5, tags: [0, 0, 0, 0] }");
        }
    }
}
