//! A TCP link with faults: bytes arrive late, with jitter, or slowly, and in order.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep, sleep_until},
};

/// The effect of a link on its bytes, for each connection and each direction alike.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    /// The delay of everything.
    pub latency: Duration,
    /// The random variation of the delay; nothing overtakes earlier bytes.
    pub jitter: Duration,
    /// The rate of each connection in each direction, if it is bounded.
    pub bytes_per_second: Option<u32>,
    /// The seed of the jitter.
    pub seed: u64,
}

impl Link {
    /// A link that carries this many bytes a second, without delay.
    pub fn narrow(bytes_per_second: u32) -> Self {
        Self { bytes_per_second: Some(bytes_per_second), ..Self::default() }
    }

    /// Opens it to that endpoint; returns where to connect.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn to(self, endpoint: &str) -> String {
        let target = endpoint.trim_start_matches("tcp://");
        format!("tcp://{}", self.open("127.0.0.1:0", target).await.expect("a free port"))
    }

    /// Carries connections here to the target, both as `HOST:PORT`, while the runtime lives; returns where it listens.
    ///
    /// Each connection resolves the target's name anew. A connection whose target is unreachable is reset.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub async fn open(self, listen: &str, target: &str) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let target = target.to_owned();
        tokio::spawn(async move {
            let mut random = Rng::with_seed(self.seed);
            loop {
                match listener.accept().await {
                    Ok((near, _)) => drop(tokio::spawn(self.carry(near, target.clone(), random.fork()))),
                    // For example, too many open files: only closing some of them helps.
                    Err(_) => sleep(ACCEPTING_AGAIN).await,
                }
            }
        });
        Ok(address)
    }

    /// Carries one connection to its end. A reset of either end resets both.
    async fn carry(self, mut near: TcpStream, target: String, mut random: Rng) {
        let Ok(mut far) = TcpStream::connect(target).await else { return reset(&near) };
        let _ = near.set_nodelay(true).and(far.set_nodelay(true));
        let carried = {
            let ((near_reader, near_writer), (far_reader, far_writer)) = (near.split(), far.split());
            let there = self.carry_one_way(near_reader, far_writer, random.fork());
            tokio::try_join!(there, self.carry_one_way(far_reader, near_writer, random))
        };
        if carried.is_err() {
            reset(&near);
            reset(&far);
        }
    }

    async fn carry_one_way(self, from: ReadHalf<'_>, to: WriteHalf<'_>, random: Rng) -> io::Result<()> {
        let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
        // Reads and delivers in parallel: late bytes do not keep later ones from being read.
        let (mut reading, mut delivering) = (pin!(self.read(from, sender, random)), pin!(deliver(receiver, to)));
        tokio::select! {
            delivered = &mut delivering => delivered,
            () = &mut reading => delivering.await,
        }
    }

    /// Reads until the end or a reset, and computes when each chunk is due.
    async fn read(self, mut from: ReadHalf<'_>, chunks: mpsc::Sender<Chunk>, mut random: Rng) {
        let mut buffer = vec![0; self.chunk_bytes()];
        let room = Arc::new(Semaphore::new(self.held_bytes_max()));
        let (mut left_at, mut due_at) = (Instant::now(), Instant::now());
        loop {
            let read = from.read(&mut buffer).await;
            let count = read.as_ref().map_or(0, |count| *count);
            // It leaves after all bytes before it, and its own last byte.
            left_at = left_at.max(Instant::now()) + self.time_of(count);
            due_at = due_at.max(left_at + self.lateness(&mut random));
            let is_last = count == 0;
            let count = u32::try_from(count).expect("a chunk is small");
            let permit = Arc::clone(&room).acquire_many_owned(count).await.expect("it is never closed");
            let chunk = Chunk { due_at, content: read.map(|count| buffer[..count].to_vec()), _room: permit };
            if chunks.send(chunk).await.is_err() || is_last {
                return;
            }
        }
    }

    fn lateness(&self, random: &mut Rng) -> Duration {
        (self.latency + self.jitter.mul_f64(2.0 * random.f64())).saturating_sub(self.jitter)
    }

    fn time_of(&self, bytes: usize) -> Duration {
        self.bytes_per_second.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes as f64 / f64::from(rate)))
    }

    /// A twentieth of a second's bytes if the rate is bounded.
    ///
    /// That is little enough for an even rate, and enough that a busy machine, late for the next chunk, does not lower
    /// the rate much.
    fn chunk_bytes(&self) -> usize {
        self.bytes_per_second.map_or(CHUNK_BYTES, |rate| (rate as usize / 20).clamp(1, CHUNK_BYTES_MAX))
    }

    /// The most bytes in flight: those that cross the link during its delay, and a chunk more for reading.
    ///
    /// A sender of more waits, as on any link.
    fn held_bytes_max(&self) -> usize {
        let time = self.latency + self.jitter;
        let crossing = |rate: u32| (f64::from(rate) * time.as_secs_f64()) as usize + 2 * self.chunk_bytes();
        self.bytes_per_second.map_or(HELD_BYTES_MAX, crossing).min(HELD_BYTES_MAX)
    }
}

/// One read: some bytes, none at the end, or an error.
struct Chunk {
    due_at: Instant,
    content: io::Result<Vec<u8>>,
    /// Released on delivery.
    _room: OwnedSemaphorePermit,
}

/// Delivers each chunk when it is due, until the end.
async fn deliver(mut chunks: mpsc::Receiver<Chunk>, mut to: WriteHalf<'_>) -> io::Result<()> {
    while let Some(Chunk { due_at, content, _room }) = chunks.recv().await {
        sleep_until(due_at).await;
        match content {
            Ok(bytes) if bytes.is_empty() => return to.shutdown().await,
            Ok(bytes) => to.write_all(&bytes).await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes the close of the connection a reset.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// The most bytes of one read without a bounded rate.
const CHUNK_BYTES: usize = 16 << 10;

/// The most bytes of one read.
const CHUNK_BYTES_MAX: usize = 256 << 10;

/// The most bytes in flight in each direction of a connection: 10 MB a second at 400 ms.
const HELD_BYTES_MAX: usize = 4 << 20;

/// The most chunks in flight in each direction, because each costs more than its bytes: 20,000 a second at 400 ms.
const CHUNKS_MAX: usize = 8_192;

/// The pause before accepting again after a failure.
const ACCEPTING_AGAIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{PATIENCE, Port, run, within};

    #[test]
    fn bytes_arrive_whole_in_order_and_never_early_each_way() {
        run(async {
            let [latency, jitter] = [100, 60].map(Duration::from_millis);
            let (near, far) = across(Link { latency, jitter, seed: 7, ..Link::default() }).await;
            let (near, far) = (near.into_split(), far.into_split());
            for (mut from, mut to) in [(near.1, far.0), (far.1, near.0)] {
                let sending = async {
                    let mut sent_at = Vec::new();
                    for message in messages() {
                        sent_at.push(Instant::now());
                        from.write_all(&message).await.unwrap();
                        // So that most are separate chunks.
                        sleep(Duration::from_millis(1)).await;
                    }
                    sent_at
                };
                let receiving = async {
                    let mut received_at = Vec::new();
                    for message in messages() {
                        let mut received = vec![0; message.len()];
                        to.read_exact(&mut received).await.unwrap();
                        received_at.push(Instant::now());
                        assert!(received == message);
                    }
                    received_at
                };
                let (sent_at, received_at) = within(PATIENCE, async { tokio::join!(sending, receiving) }).await;
                let least =
                    received_at.into_iter().zip(sent_at).map(|(received_at, sent_at)| received_at - sent_at).min();
                assert!(least >= Some(latency - jitter), "{least:?}");
            }
        });
    }

    #[test]
    fn delay_stays_within_its_bounds_and_comes_near_both() {
        let [latency, jitter] = [200, 100].map(Duration::from_millis);
        let link = Link { latency, jitter, ..Link::default() };
        let mut random = Rng::with_seed(1);
        let drawn: Vec<_> = (0..1_000).map(|_| link.lateness(&mut random)).collect();
        let (least, most) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
        assert!(*least >= latency - jitter && *least < latency - jitter / 2, "{least:?}");
        assert!(*most <= latency + jitter && *most > latency + jitter / 2, "{most:?}");
        let unsteady = Link { latency: jitter, jitter: latency, ..link };
        assert!((0..1_000).any(|_| unsteady.lateness(&mut random).is_zero()), "nothing arrives before it was sent");
    }

    #[test]
    fn latency_bounds_no_throughput() {
        run(async {
            let latency = Duration::from_millis(300);
            let (mut near, far) = across(Link { latency, ..Link::default() }).await;
            let bytes = vec![7; 200 * CHUNK_BYTES];
            let start = Instant::now();
            let received = tokio::spawn(read_to_end(far));
            near.write_all(&bytes).await.unwrap();
            near.shutdown().await.unwrap();
            assert_eq!(within(PATIENCE, received).await.unwrap().len(), bytes.len());
            // A chunk for each latency would take a minute.
            assert!(start.elapsed() >= latency && start.elapsed() < 30 * latency, "{:?}", start.elapsed());
        });
    }

    #[test]
    fn narrow_link_carries_no_more_than_its_rate_and_makes_the_sender_wait() {
        run(async {
            let rate = 10_000_000;
            let (mut near, mut far) = across(Link::narrow(rate)).await;
            let bytes = vec![7; 2 * rate as usize];
            let start = Instant::now();
            let sent = tokio::spawn(async move {
                near.write_all(&bytes).await.unwrap();
                near.shutdown().await.unwrap();
                start.elapsed()
            });
            let (mut buffer, mut received) = (vec![0; 1 << 16], 0);
            loop {
                let count = within(PATIENCE, far.read(&mut buffer)).await.unwrap();
                received += count;
                let most = start.elapsed().as_secs_f64() * f64::from(rate);
                assert!(received as f64 <= most, "{received} bytes, at most {most:.0} by now");
                if count == 0 {
                    break;
                }
            }
            assert_eq!(received, 2 * rate as usize);
            // Everything beyond the buffers of the link and the system had to wait.
            assert!(sent.await.unwrap() >= Duration::from_secs(1));
        });
    }

    #[test]
    fn peer_that_reads_nothing_stops_the_sender() {
        run(async {
            let (mut near, far) = across(Link::default()).await;
            let mut sent = 0;
            let flood = async {
                loop {
                    near.write_all(&[7; 1 << 16]).await.unwrap();
                    sent += 1 << 16;
                }
            };
            assert!(tokio::time::timeout(Duration::from_secs(2), flood).await.is_err());
            assert!(sent < 64 << 20, "{sent} bytes are held");
            drop(near);
            assert_eq!(within(PATIENCE, read_to_end(far)).await.len() / (1 << 16), sent / (1 << 16));
        });
    }

    #[test]
    fn end_of_one_direction_leaves_the_other_open() {
        run(async {
            let (mut near, mut far) = across(Link { latency: Duration::from_millis(50), ..Link::default() }).await;
            near.write_all(b"question").await.unwrap();
            near.shutdown().await.unwrap();
            let mut question = Vec::new();
            within(PATIENCE, far.read_to_end(&mut question)).await.unwrap();
            assert_eq!(question, b"question");
            far.write_all(b"answer").await.unwrap();
            drop(far);
            assert_eq!(within(PATIENCE, read_to_end(near)).await, b"answer");
        });
    }

    #[test]
    fn reset_of_either_end_resets_the_other_after_earlier_bytes() {
        run(async {
            for is_near in [true, false] {
                let (near, far) = across(Link { latency: Duration::from_millis(50), ..Link::default() }).await;
                let (mut leaving, mut staying) = if is_near { (near, far) } else { (far, near) };
                leaving.write_all(b"last words").await.unwrap();
                let mut words = [0; 10];
                within(PATIENCE, staying.read_exact(&mut words)).await.unwrap();
                reset(&leaving);
                drop(leaving);
                let error = within(PATIENCE, staying.read_u8()).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
            }
        });
    }

    #[test]
    fn connection_without_a_listener_is_reset_and_a_later_one_is_carried() {
        run(async {
            let nobody = Port::reserve();
            let endpoint = nobody.endpoint();
            let target = endpoint.trim_start_matches("tcp://");
            let here = Link::default().open("127.0.0.1:0", target).await.unwrap();
            // The reset may arrive as soon as there is a connection.
            let lost = async { TcpStream::connect(here).await?.read_u8().await };
            let error = within(PATIENCE, lost).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");

            drop(nobody);
            let listener = TcpListener::bind(target).await.unwrap();
            let _near = TcpStream::connect(here).await.unwrap();
            within(PATIENCE, listener.accept()).await.unwrap();
        });
    }

    #[test]
    fn link_is_opened_by_names_and_serves_many_at_once() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let target = format!("localhost:{}", listener.local_addr().unwrap().port());
            let here = Link::default().open("127.0.0.1:0", &target).await.unwrap();
            let mut ends = Vec::new();
            for number in 0..20 {
                let mut near = TcpStream::connect(here).await.unwrap();
                let (far, _) = within(PATIENCE, listener.accept()).await.unwrap();
                near.write_all(&[number]).await.unwrap();
                ends.push((near, far));
            }
            for (number, (_, far)) in (0..).zip(&mut ends) {
                assert_eq!(within(PATIENCE, far.read_u8()).await.unwrap(), number);
            }
        });
    }

    /// Both ends of a connection through such a link.
    async fn across(link: Link) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let near = TcpStream::connect(link.open("127.0.0.1:0", &target).await.unwrap()).await.unwrap();
        let (far, _) = within(PATIENCE, listener.accept()).await.unwrap();
        (near, far)
    }

    async fn read_to_end(mut stream: TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    /// A hundred messages of different lengths and different bytes.
    fn messages() -> Vec<Vec<u8>> {
        (0..100_u8).map(|number| vec![number; 1 + usize::from(number) * 50]).collect()
    }
}
