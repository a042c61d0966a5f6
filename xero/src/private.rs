//! Names for generated code; not part of the public interface, and free to change in any release.

pub use std::string::String;

pub use bytes::Bytes;
pub use serde;

pub use crate::{
    client::{Call, Client, Stub},
    error::{Never, NoWorkerError},
    proto::message::Codec,
    wire::{
        Blob, Chosen, Defaulted, Form, Lend, Lending, List, Opt, Ordinary, Plain, Probe, Read, Res, Stranded, Written,
        travels,
    },
    worker::{
        BoundService, Context, IntoService, MethodDescriptor, Mode, Outcome, ServiceDescriptor, reply, reply_result,
        shared,
    },
};
