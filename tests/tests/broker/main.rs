//! Many clients and many workers with a broker, or several, in between.

mod drains;
mod losses;
mod mistakes;
mod queues;
mod restarts;
mod routing;
