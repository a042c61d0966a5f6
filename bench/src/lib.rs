//! The benchmark of Xero: the same echo over Xero and its peers, measured in the same run.
//!
//! The program starts itself again for each side of a measurement, so that client and server are processes of their
//! own, pinned to their CPUs. [`measure`] conducts one measurement, [`run`] all of them, round after round. A child
//! plays its part in [`stage`] with an implementation from `peers`, and calls through [`load`]. [`summary`] and what
//! follows it make tables and plots of the records.

pub mod libzmq;
pub mod load;
pub mod machine;
pub mod measure;
pub mod mode;
pub mod options;
pub mod peer;
mod peers;
pub mod plot;
pub mod process;
pub mod record;
pub mod run;
pub mod session;
pub mod stage;
pub mod stats;
pub mod summary;
pub mod table;
pub mod targets;
pub mod usage;
