//! The network: what its connections carry, lose and hold back.

use std::{collections::BTreeMap, mem, ops::Index, time::Duration};

use fastrand::Rng;

use super::{
    at::At,
    connection::{Connection, Contents, End, Parcel, Side, Way, Wire},
    queue::Queue,
};

/// The time that an unanswered dial takes, as in the shell.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections between processes `P` with sockets `S`, on which frames `F` travel.
///
/// A connection keeps its messages in order and repeats none. It may be slow, lose its tail, stall while a direction is
/// blocked, or break without notice to either side. Everything that happens waits in one queue: arrivals, and the other
/// events `E` of the simulation.
#[derive(Debug)]
pub struct Network<P, S, F, E> {
    /// What will happen.
    pub queue: Queue<E>,
    /// The time that a parcel travels at least; zero at first.
    pub latency: Duration,
    /// The most time beyond the latency; zero at first.
    pub jitter: Duration,
    /// Parcels arrive at multiples of this time only, so that they meet at busy processes. Zero, the value at first, lets
    /// them arrive whenever they do.
    pub grain: Duration,
    /// The jitter is drawn from it. A simulation that draws everything else from it too has one seed for all.
    pub random: Rng,
    connections: Vec<Connection<P, S>>,
    /// The directions in which nothing passes, with the number of reasons.
    blocked: BTreeMap<(P, P), u32>,
    /// By direction, in order of arrival.
    held: BTreeMap<(P, P), Vec<Parcel<F>>>,
}

/// What a process has taken off a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken<F> {
    /// The news that a dialer is connected.
    Accepted,
    /// Frames from the other side.
    Frames(F),
    /// The news that the connection has ended; this end stands no longer.
    End,
    /// Nothing, because this end was gone before. [`Network::reset`] answers the sender.
    Nothing,
}

impl<P: Copy + Ord, S: Copy, F, E: From<Parcel<F>>> Network<P, S, F, E> {
    /// A network without connections, delays or faults.
    pub fn new(seed: u64) -> Self {
        Self {
            queue: Queue::new(),
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            grain: Duration::ZERO,
            random: Rng::with_seed(seed),
            connections: Vec::new(),
            blocked: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    /// Opens a connection between two processes and their sockets. The dialer has it at once; the listener learns of it
    /// before all messages.
    pub fn open(&mut self, now: At, dialer: (P, S), listener: (P, S)) -> Wire {
        let end = |(process, socket)| End { process, socket, stands: true };
        let wire = self.next_wire();
        self.connections.push(Connection { ends: [dialer, listener].map(end), ways: [Way::default(), Way::default()] });
        self.dispatch(now, wire, Side::Listener, Contents::Accepted, Duration::ZERO);
        wire
    }

    /// Sends frames to this side.
    pub fn send(&mut self, now: At, wire: Wire, to: Side, frames: F) {
        self.dispatch(now, wire, to, Contents::Frames(frames), Duration::ZERO);
    }

    /// Ends this side's end; the other side learns of it after all messages. `false` if it is gone already.
    pub fn hang_up(&mut self, now: At, wire: Wire, side: Side) -> bool {
        let stood = self.abandon(wire, side);
        if stood {
            self.dispatch(now, wire, side.other(), Contents::End, Duration::ZERO);
        }
        stood
    }

    /// Ends this side's end, and the other side never learns of it. `false` if it is gone already.
    pub fn abandon(&mut self, wire: Wire, side: Side) -> bool {
        mem::take(&mut self.connections[wire].ends[side as usize].stands)
    }

    /// Answers for an end that is gone, as the system does with TCP: the other side learns that nobody is here.
    pub fn reset(&mut self, now: At, wire: Wire, side: Side) {
        if self[wire].end(side.other()).stands {
            self.dispatch(now, wire, side.other(), Contents::End, Duration::ZERO);
        }
    }

    /// Loses the last parcels on the way to this side, this many, and all that are sent later.
    pub fn lose_tail(&mut self, wire: Wire, to: Side, lost: usize) {
        let way = &mut self.connections[wire].ways[to as usize];
        let lost_from = way.sent + 1 - (lost as u64).min(way.sent);
        way.lost_from = Some(way.lost_from.map_or(lost_from, |earlier| earlier.min(lost_from)));
    }

    /// Lets this side's own machine notice that the connection is broken, after the given time and all messages in
    /// transit. No loss or block stops that news.
    pub fn notice_break(&mut self, now: At, wire: Wire, side: Side, delay: Duration) {
        self.dispatch(now, wire, side, Contents::Break, delay);
    }

    /// Blocks everything from one process to another, for one reason more.
    pub fn block(&mut self, from: P, to: P) {
        *self.blocked.entry((from, to)).or_default() += 1;
    }

    /// Removes one reason to block. If it was the last, returns the held parcels, which have crossed the network now:
    /// whoever delivers them at once keeps the order.
    pub fn unblock(&mut self, from: P, to: P) -> Option<Vec<Parcel<F>>> {
        let reasons = self.blocked.get_mut(&(from, to))?;
        *reasons -= 1;
        if *reasons > 0 {
            return None;
        }
        self.blocked.remove(&(from, to));
        Some(self.held.remove(&(from, to)).unwrap_or_default())
    }

    /// Removes all reasons to block anything, and returns the held parcels as [`Self::unblock`] does.
    pub fn unblock_all(&mut self) -> Vec<Parcel<F>> {
        self.blocked.clear();
        mem::take(&mut self.held).into_values().flatten().collect()
    }

    /// Lets a parcel cross at its instant, unless it is lost or its direction is blocked.
    pub fn arrive(&mut self, parcel: Parcel<F>) -> Option<Parcel<F>> {
        let Connection { ends, ways } = &self.connections[parcel.wire];
        if let Contents::Break = parcel.contents {
            return Some(parcel);
        }
        // It stays in transit: what nobody takes off the connection blocks what is behind it.
        if ways[parcel.to as usize].lost_from.is_some_and(|number| parcel.number >= number) {
            return None;
        }
        let direction = (ends[parcel.to.other() as usize].process, ends[parcel.to as usize].process);
        if self.blocked.contains_key(&direction) {
            self.held.entry(direction).or_default().push(parcel);
            return None;
        }
        Some(parcel)
    }

    /// Gives the contents of a parcel that has crossed to its process.
    pub fn take(&mut self, parcel: Parcel<F>) -> Taken<F> {
        let Parcel { wire, to, contents, .. } = parcel;
        self.connections[wire].ways[to as usize].in_transit -= 1;
        match contents {
            _ if !self[wire].end(to).stands => Taken::Nothing,
            Contents::Accepted => Taken::Accepted,
            Contents::Frames(frames) => Taken::Frames(frames),
            Contents::End | Contents::Break => {
                self.abandon(wire, to);
                Taken::End
            }
        }
    }

    /// The number of the connection that is opened next.
    pub fn next_wire(&self) -> Wire {
        self.connections.len()
    }

    /// The parcels that are sent to this side and not taken, including those that are lost.
    pub fn in_transit(&self, wire: Wire, to: Side) -> usize {
        self[wire].ways[to as usize].in_transit
    }

    /// Whether nothing passes from one process to another.
    pub fn is_blocked(&self, from: P, to: P) -> bool {
        self.blocked.contains_key(&(from, to))
    }

    /// Whether a direction between the two is blocked, so that neither can connect to the other.
    pub fn is_cut(&self, one: P, other: P) -> bool {
        self.is_blocked(one, other) || self.is_blocked(other, one)
    }

    /// The ends of this process that stand, in the order of their connections.
    pub fn ends_of(&self, process: P) -> Vec<(Wire, Side)> {
        let ends = (0..self.connections.len()).flat_map(|wire| Side::BOTH.map(|side| (wire, side)));
        let is_meant = |end: &End<P, S>| end.stands && end.process == process;
        ends.filter(|(wire, side)| is_meant(self[*wire].end(*side))).collect()
    }

    fn dispatch(&mut self, now: At, wire: Wire, to: Side, contents: Contents<F>, delay: Duration) {
        let time = self.latency + self.jitter.mul_f64(self.random.f64());
        let at = now.after(time + delay).next_multiple_of(self.grain);
        let way = &mut self.connections[wire].ways[to as usize];
        way.last_arrival_at = at.max(way.last_arrival_at);
        way.sent += 1;
        way.in_transit += 1;
        let parcel = Parcel { wire, to, number: way.sent, contents };
        self.queue.post(way.last_arrival_at, parcel.into());
    }
}

impl<P, S, F, E> Index<Wire> for Network<P, S, F, E> {
    type Output = Connection<P, S>;

    fn index(&self, wire: Wire) -> &Self::Output {
        &self.connections[wire]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Processes are letters, frames are numbers, and nothing happens but arrivals.
    type Letters = Network<char, (), u32, Parcel<u32>>;

    #[test]
    fn listener_learns_of_a_connection_before_all_messages() {
        let mut network = Letters::new(0);
        network.jitter = ms(50);
        let wire = network.open(at(0), ('a', ()), ('b', ()));
        assert_eq!(network.ends_of('a'), [(wire, Side::Dialer)]);
        network.send(at(0), wire, Side::Listener, 1);
        let taken: Vec<_> = run(&mut network).into_iter().map(|(_, to, taken)| (to, taken)).collect();
        assert_eq!(taken, [(Side::Listener, Taken::Accepted), (Side::Listener, Taken::Frames(1))]);
    }

    #[test]
    fn messages_of_one_direction_arrive_in_order_whatever_the_jitter() {
        for seed in 0..100 {
            let (mut network, wire) = pair(seed);
            (network.latency, network.jitter) = (ms(3), ms(50));
            for number in 0..20 {
                network.send(at(number.into()), wire, Side::BOTH[number as usize % 2], number);
            }
            let arrivals = run(&mut network);
            for side in Side::BOTH {
                let numbers = arrivals.iter().filter(|(_, to, _)| *to == side).map(|(_, _, taken)| taken);
                let sent = (0..20).filter(|number| Side::BOTH[number % 2] == side);
                assert!(numbers.eq(sent.map(|number| Taken::Frames(number as u32)).collect::<Vec<_>>().iter()));
            }
            for (arrived_at, _, taken) in arrivals {
                let Taken::Frames(number) = taken else { panic!("nothing ends") };
                assert!((ms(3)..=ms(53)).contains(&arrived_at.since(at(number.into()))), "seed {seed}: {number}");
            }
        }
    }

    #[test]
    fn equal_seeds_deliver_alike_and_others_do_not() {
        let arrivals = |seed| {
            let (mut network, wire) = pair(seed);
            network.jitter = ms(50);
            (0..20).for_each(|number| network.send(at(10 * u64::from(number)), wire, Side::Dialer, number));
            run(&mut network)
        };
        assert!(arrivals(3) == arrivals(3) && arrivals(3) != arrivals(4));
    }

    #[test]
    fn messages_meet_at_the_grain() {
        let (mut network, wire) = pair(0);
        (network.latency, network.grain) = (ms(1), ms(10));
        (0..3).for_each(|number| network.send(at(4 * u64::from(number)), wire, Side::Dialer, number));
        let instants: Vec<_> = run(&mut network).into_iter().map(|(at, ..)| at).collect();
        assert_eq!(instants, [at(10), at(10), at(10)]);
    }

    #[test]
    fn blocked_direction_holds_what_comes_and_the_other_does_not() {
        let (mut network, wire) = pair(0);
        network.block('a', 'b');
        assert!(network.is_blocked('a', 'b') && !network.is_blocked('b', 'a'));
        assert!(network.is_cut('a', 'b') && network.is_cut('b', 'a') && !network.is_cut('a', 'c'));
        (1..=2).for_each(|number| network.send(at(0), wire, Side::Listener, number));
        network.send(at(0), wire, Side::Dialer, 3);
        network.hang_up(at(0), wire, Side::Dialer);
        assert_eq!(numbers(run(&mut network)), []);
        assert_eq!(network.in_transit(wire, Side::Listener), 3);
        let held = network.unblock('a', 'b').expect("the only reason is gone");
        let taken: Vec<_> = held.into_iter().map(|parcel| arrive(&mut network, parcel)).collect();
        assert_eq!(taken, [Taken::Frames(1), Taken::Frames(2), Taken::End].map(Some));
        assert_eq!((network.unblock('a', 'b'), network.is_cut('a', 'b')), (None, false));
    }

    #[test]
    fn direction_is_blocked_until_its_last_reason_is_gone() {
        let (mut network, wire) = pair(0);
        (0..2).for_each(|_| network.block('b', 'a'));
        network.send(at(0), wire, Side::Dialer, 1);
        assert_eq!(numbers(run(&mut network)), []);
        assert_eq!(network.unblock('b', 'a'), None);
        assert!(network.is_blocked('b', 'a'));
        assert_eq!(network.unblock('b', 'a').map(|held| held.len()), Some(1));
    }

    #[test]
    fn everything_is_unblocked_at_once() {
        let (mut network, wire) = pair(0);
        for (from, to, receiver) in [('a', 'b', Side::Listener), ('b', 'a', Side::Dialer)] {
            (0..2).for_each(|_| network.block(from, to));
            network.send(at(0), wire, receiver, 1);
        }
        assert_eq!(numbers(run(&mut network)), []);
        assert_eq!(network.unblock_all().len(), 2);
        assert!(!network.is_cut('a', 'b') && network.unblock_all().is_empty());
    }

    #[test]
    fn end_follows_all_messages_and_nothing_is_read_after_it() {
        let (mut network, wire) = pair(0);
        network.jitter = ms(50);
        network.send(at(0), wire, Side::Listener, 1);
        assert!(network.hang_up(at(1), wire, Side::Dialer) && !network.hang_up(at(1), wire, Side::Dialer));
        assert_eq!(network.ends_of('a'), []);
        assert_eq!(network.ends_of('b'), [(wire, Side::Listener)]);
        // Its receiver does not know yet, and what it sends finds nobody.
        network.send(at(2), wire, Side::Dialer, 2);
        network.send(at(3), wire, Side::Listener, 3);
        let arrivals = run(&mut network);
        let taken = |side| arrivals.iter().filter(move |(_, to, _)| *to == side).map(|(_, _, taken)| taken);
        assert!(taken(Side::Listener).eq(&[Taken::Frames(1), Taken::End, Taken::Nothing]), "{arrivals:?}");
        assert!(taken(Side::Dialer).eq(&[Taken::Nothing]), "{arrivals:?}");
        assert!(network.ends_of('b').is_empty() && !network[wire].is_whole());
    }

    #[test]
    fn end_without_notice_is_learned_from_a_reset() {
        let (mut network, wire) = pair(0);
        assert!(network.abandon(wire, Side::Listener));
        assert_eq!(run(&mut network), []);
        network.send(at(0), wire, Side::Listener, 1);
        assert_eq!(run(&mut network), [(at(0), Side::Listener, Taken::Nothing)]);
        network.reset(at(1), wire, Side::Listener);
        assert_eq!(run(&mut network), [(at(1), Side::Dialer, Taken::End)]);
        network.reset(at(2), wire, Side::Listener);
        assert_eq!(run(&mut network), [], "nobody is left to answer");
    }

    #[test]
    fn lost_tail_never_arrives_and_stays_in_transit() {
        let (mut network, wire) = pair(0);
        (1..=5).for_each(|number| network.send(at(0), wire, Side::Listener, number));
        network.send(at(0), wire, Side::Dialer, 6);
        network.lose_tail(wire, Side::Listener, 2);
        assert!(!network[wire].is_whole());
        // A smaller loss later brings nothing back.
        network.lose_tail(wire, Side::Listener, 1);
        network.send(at(0), wire, Side::Listener, 7);
        assert_eq!(numbers(run(&mut network)), [1, 2, 3, 6]);
        assert_eq!(network.in_transit(wire, Side::Listener), 3);
        assert_eq!(network.in_transit(wire, Side::Dialer), 0);
    }

    #[test]
    fn neither_loss_nor_block_stops_the_notice_of_a_break() {
        let (mut network, wire) = pair(0);
        network.send(at(0), wire, Side::Dialer, 1);
        network.lose_tail(wire, Side::Dialer, 0);
        network.block('b', 'a');
        network.notice_break(at(0), wire, Side::Dialer, ms(7));
        assert_eq!(run(&mut network), [(at(7), Side::Dialer, Taken::End)]);
        assert!(network[wire].end(Side::Listener).stands && !network[wire].end(Side::Dialer).stands);
    }

    /// A network of two processes and their connection, of which both know.
    fn pair(seed: u64) -> (Letters, Wire) {
        let mut network = Network::new(seed);
        let wire = network.open(at(0), ('a', ()), ('b', ()));
        assert_eq!(run(&mut network), [(at(0), Side::Listener, Taken::Accepted)]);
        (network, wire)
    }

    /// Lets everything arrive and be taken.
    fn run(network: &mut Letters) -> Vec<(At, Side, Taken<u32>)> {
        let mut arrivals = Vec::new();
        while let Some(at) = network.queue.next_at() {
            let parcel = network.queue.pop_due(at).expect("it is due");
            let to = parcel.to;
            arrivals.extend(arrive(network, parcel).map(|taken| (at, to, taken)));
        }
        arrivals
    }

    fn arrive(network: &mut Letters, parcel: Parcel<u32>) -> Option<Taken<u32>> {
        network.arrive(parcel).map(|parcel| network.take(parcel))
    }

    /// The frames among the arrivals.
    fn numbers(arrivals: Vec<(At, Side, Taken<u32>)>) -> Vec<u32> {
        let number = |(_, _, taken)| match taken {
            Taken::Frames(number) => Some(number),
            Taken::Accepted | Taken::End | Taken::Nothing => None,
        };
        arrivals.into_iter().filter_map(number).collect()
    }

    fn at(milliseconds: u64) -> At {
        At::ZERO.after(ms(milliseconds))
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }
}
