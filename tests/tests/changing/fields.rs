//! Fields of a struct that is an argument, a reply or an error, or a part of one.

/// A new field.
mod added {
    crate::reshape! {
        "fields::added",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                id: u8,
                tags: Vec<u8>,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                id: u8,
                size: u8,
                tags: Vec<u8>,
            }
        }
        old to new {
            Job { id: 7, tags: vec![] } =>
                Refused("the bytes end within the value"), Refused("the field `size` is missing");
            Job { id: 7, tags: vec![0] } =>
                Wrong("Job { id: 7, size: 1, tags: [] }"), Refused("the field `size` is missing");
        }
        new to old {
            Job { id: 7, size: 1, tags: vec![] } => Wrong("Job { id: 7, tags: [0] }"), Works("Job { id: 7, tags: [] }");
            Job { id: 7, size: 0, tags: vec![] } =>
                Refused("(are both sides built from the same types?)"), Works("Job { id: 7, tags: [] }");
        }
    }
}

/// A new field with a default.
mod added_with_default {
    crate::reshape! {
        "fields::added_with_default",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                id: u8,
                tags: Vec<u8>,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                id: u8,
                #[serde(default)]
                size: u8,
                note: Option<u8>,
                tags: Vec<u8>,
            }
        }
        old to new {
            Job { id: 7, tags: vec![] } =>
                Refused("the bytes end within the value"), Works("Job { id: 7, size: 0, note: None, tags: [] }");
            Job { id: 7, tags: vec![0, 0] } =>
                Wrong("Job { id: 7, size: 2, note: None, tags: [] }"),
                Works("Job { id: 7, size: 0, note: None, tags: [0, 0] }");
        }
        new to old {
            Job { id: 7, size: 2, note: None, tags: vec![] } =>
                Wrong("Job { id: 7, tags: [0, 0] }"), Works("Job { id: 7, tags: [] }");
            Job { id: 7, size: 0, note: Some(1), tags: vec![] } =>
                Refused("(are both sides built from the same types?)"), Works("Job { id: 7, tags: [] }");
        }
    }
}

/// A new field, for a reader that denies unknown ones.
mod added_where_unknown_ones_are_denied {
    crate::reshape! {
        "fields::added_where_unknown_ones_are_denied",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub(super) struct Job {
                id: u8,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub(super) struct Job {
                id: u8,
                #[serde(default)]
                size: u8,
            }
        }
        old to new {
            Job { id: 7 } => Refused("the bytes end within the value"), Works("Job { id: 7, size: 0 }");
        }
        new to old {
            Job { id: 7, size: 1 } =>
                Refused("(are both sides built from the same types?)"),
                Refused("there is no field `size`; there is `id`");
        }
    }
}

/// A removed field.
mod removed {
    crate::reshape! {
        "fields::removed",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                id: u8,
                size: u8,
                tags: Vec<u8>,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                id: u8,
                tags: Vec<u8>,
            }
        }
        old to new {
            Job { id: 7, size: 1, tags: vec![] } => Wrong("Job { id: 7, tags: [0] }"), Works("Job { id: 7, tags: [] }");
            Job { id: 7, size: 0, tags: vec![] } =>
                Refused("(are both sides built from the same types?)"), Works("Job { id: 7, tags: [] }");
        }
        new to old {
            Job { id: 7, tags: vec![] } =>
                Refused("the bytes end within the value"), Refused("the field `size` is missing");
            Job { id: 7, tags: vec![0] } =>
                Wrong("Job { id: 7, size: 1, tags: [] }"), Refused("the field `size` is missing");
        }
    }
}

/// A removed field that had a default.
mod removed_that_had_a_default {
    crate::reshape! {
        "fields::removed_that_had_a_default",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                id: u8,
                #[serde(default)]
                size: u8,
                tags: Vec<u8>,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                id: u8,
                tags: Vec<u8>,
            }
        }
        old to new {
            Job { id: 7, size: 1, tags: vec![] } => Wrong("Job { id: 7, tags: [0] }"), Works("Job { id: 7, tags: [] }");
            Job { id: 7, size: 0, tags: vec![] } =>
                Refused("(are both sides built from the same types?)"), Works("Job { id: 7, tags: [] }");
        }
        new to old {
            Job { id: 7, tags: vec![] } =>
                Refused("the bytes end within the value"), Works("Job { id: 7, size: 0, tags: [] }");
            Job { id: 7, tags: vec![0] } =>
                Wrong("Job { id: 7, size: 1, tags: [] }"), Works("Job { id: 7, size: 0, tags: [0] }");
        }
    }
}

/// A renamed field.
mod renamed {
    crate::reshape! {
        "fields::renamed",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                id: u8,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                number: u8,
            }
        }
        old to new {
            Job { id: 7 } => Works("Job { number: 7 }"), Refused("the field `number` is missing");
        }
        new to old {
            Job { number: 7 } => Works("Job { id: 7 }"), Refused("the field `id` is missing");
        }
    }
}

/// A renamed field with its old name as an alias.
mod renamed_with_alias {
    crate::reshape! {
        "fields::renamed_with_alias",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                id: u8,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                #[serde(alias = "id")]
                number: u8,
            }
        }
        old to new {
            Job { id: 7 } => Works("Job { number: 7 }"), Works("Job { number: 7 }");
        }
        new to old {
            Job { number: 7 } => Works("Job { id: 7 }"), Refused("the field `id` is missing");
        }
    }
}

/// A renamed field that may be missing.
mod renamed_optional {
    crate::reshape! {
        "fields::renamed_optional",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                note: Option<u8>,
                #[serde(default)]
                size: u8,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                remark: Option<u8>,
                #[serde(default)]
                length: u8,
            }
        }
        old to new {
            Job { note: Some(1), size: 2 } =>
                Works("Job { remark: Some(1), length: 2 }"), Wrong("Job { remark: None, length: 0 }");
        }
        new to old {
            Job { remark: Some(1), length: 2 } =>
                Works("Job { note: Some(1), size: 2 }"), Wrong("Job { note: None, size: 0 }");
        }
    }
}

/// A field renamed in Rust, but not on the wire.
mod renamed_in_rust_only {
    crate::reshape! {
        "fields::renamed_in_rust_only",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                id: u8,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                #[serde(rename = "id")]
                number: u8,
            }
        }
        old to new {
            Job { id: 7 } => Works("Job { number: 7 }"), Works("Job { number: 7 }");
        }
        new to old {
            Job { number: 7 } => Works("Job { id: 7 }"), Works("Job { id: 7 }");
        }
    }
}

/// The same fields in another order.
mod reordered {
    crate::reshape! {
        "fields::reordered",
        old {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                id: u8,
                size: u8,
            }
        }
        new {
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job {
                size: u8,
                id: u8,
            }
        }
        old to new {
            Job { id: 7, size: 1 } => Wrong("Job { size: 7, id: 1 }"), Works("Job { size: 1, id: 7 }");
        }
        new to old {
            Job { id: 7, size: 1 } => Wrong("Job { id: 1, size: 7 }"), Works("Job { id: 7, size: 1 }");
        }
    }
}

/// Fields of a tuple struct in another order.
mod tuple_reordered {
    crate::reshape! {
        "fields::tuple_reordered",
        old {
            /// A number, then a size.
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job(u32, u64);
        }
        new {
            /// A size, then a number.
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct Job(u64, u32);
        }
        old to new {
            Job(7, 1) => Wrong("Job(7, 1)"), Wrong("Job(7, 1)");
            Job(7, 1 << 40) => Refused("an integer is too large for its type"), Refused("expected u32");
        }
        new to old {
            Job(7, 1) => Wrong("Job(7, 1)"), Wrong("Job(7, 1)");
        }
    }
}
