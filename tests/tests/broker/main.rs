//! Many clients and many workers, with one or several brokers between them.

mod drains;
mod losses;
mod mistakes;
mod queues;
mod restarts;
mod routing;
