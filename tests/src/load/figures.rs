//! Latencies, and memory over time.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;

/// The durations of calls, from a microsecond to ten minutes, with two digits.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_max(600_000_000, 2).expect("the bounds are sound"))
    }
}

impl Latencies {
    /// Adds a duration.
    pub fn add(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// The number of durations.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that this percentage does not exceed.
    pub fn percentile(&self, percent: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(percent / 100.0))
    }

    /// The shortest.
    pub fn min(&self) -> Duration {
        Duration::from_micros(self.0.min())
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.reset();
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p999] = [50.0, 99.0, 99.9].map(|percent| self.percentile(percent));
        write!(f, "p50 {p50:.1?}, p99 {p99:.1?}, p99.9 {p999:.1?}, max {:.1?}", self.max())
    }
}

/// The resident memory of several lives of processes over time.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    lives: BTreeMap<(String, u32), Vec<Sample>>,
}

/// Resident memory at a moment, counted from the start of the run.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The moment.
    pub at: Duration,
    /// The amount.
    pub bytes: usize,
}

impl Memory {
    /// Adds a sample of the process of that name and number.
    pub fn add(&mut self, name: &str, process: u32, sample: Sample) {
        self.lives.entry((name.to_owned(), process)).or_default().push(sample);
    }

    /// The samples of each life, by name and process.
    pub fn lives(&self) -> impl Iterator<Item = (&str, u32, &[Sample])> {
        self.lives.iter().map(|((name, process), samples)| (&**name, *process, &**samples))
    }

    /// The last sample of each process since then, as text.
    pub fn now(&self, since: Duration) -> String {
        let last = self.lives().filter_map(|(name, _, samples)| Some((name, *samples.last()?)));
        let present = last.filter(|(_, sample)| sample.at >= since);
        present.map(|(name, sample)| format!("{name} {}", mebibytes(sample.bytes))).collect::<Vec<_>>().join(", ")
    }

    /// The lives that use too much memory.
    ///
    /// These are lives whose peak in the last quarter of the time up to `end` is well above their peak in the second
    /// quarter, which is after the warm-up, and lives that ever exceeded `bytes_max`.
    ///
    /// Lives that did not see both quarters whole are only compared with `bytes_max`.
    pub fn growth(&self, end: Duration, bytes_max: usize) -> Vec<String> {
        self.lives()
            .filter_map(|(name, process, samples)| {
                grown(samples, end, bytes_max)
                    .map(|growth| format!("the memory of {name}, process {process}, has grown: {growth}"))
            })
            .collect()
    }
}

fn grown(samples: &[Sample], end: Duration, bytes_max: usize) -> Option<String> {
    let most = samples.iter().map(|sample| sample.bytes).max()?;
    if most > bytes_max {
        return Some(format!("to {} of at most {}", mebibytes(most), mebibytes(bytes_max)));
    }
    let quarter = end / 4;
    let peak = |from: Duration, to: Duration| {
        samples.iter().filter(|sample| (from..to).contains(&sample.at)).map(|sample| sample.bytes).max()
    };
    let lived_through = samples.first()?.at < quarter && samples.last()?.at > 3 * quarter;
    let (early, late) = (peak(quarter, 2 * quarter)?, peak(3 * quarter, Duration::MAX)?);
    let is_grown = lived_through && late > early + early / 10 + SLACK_BYTES;
    is_grown.then(|| format!("from {} to {}", mebibytes(early), mebibytes(late)))
}

/// For each name: the number of lives, the largest memory, and that of the longest life at its start and its end.
impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: BTreeMap<&str, Vec<&[Sample]>> = BTreeMap::new();
        self.lives().for_each(|(name, _, samples)| names.entry(name).or_default().push(samples));
        for (name, lives) in names {
            let most = lives.iter().flat_map(|life| life.iter()).map(|sample| sample.bytes).max().unwrap_or_default();
            let longest = lives.iter().max_by_key(|life| length(life)).copied().unwrap_or_default();
            let (Some(first), Some(last)) = (longest.first(), longest.last()) else { continue };
            let (count, seconds) = (lives.len(), length(longest).as_secs_f64());
            let [first, most, last] = [first.bytes, most, last.bytes].map(mebibytes);
            write!(f, "  {name:<10} lives: {count:>3}, at most {most:>9}; ")?;
            writeln!(f, "the longest, of {seconds:>6.1} s, from {first:>9} to {last:>9}")?;
        }
        Ok(())
    }
}

fn length(life: &[Sample]) -> Duration {
    life.first().zip(life.last()).map_or(Duration::ZERO, |(first, last)| last.at - first.at)
}

/// The bytes as text for people.
pub fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The growth of a process's memory that does not count: an allocator's noise.
const SLACK_BYTES: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(mebibytes: impl Fn(u64) -> usize) -> Memory {
        let mut memory = Memory::default();
        for second in 0..100 {
            let sample = Sample { at: Duration::from_secs(second), bytes: mebibytes(second) << 20 };
            memory.add("worker", 7, sample);
        }
        memory
    }

    #[test]
    fn growing_memory_differs_from_warm_up_and_noise() {
        let end = Duration::from_secs(100);
        assert!(memory(|_| 50).growth(end, 200 << 20).is_empty());
        assert!(memory(|second| if second < 20 { 10 } else { 150 }).growth(end, 200 << 20).is_empty());
        assert!(memory(|second| 50 + (second % 7) as usize).growth(end, 200 << 20).is_empty());
        assert_eq!(memory(|second| 10 + second as usize).growth(end, 200 << 20).len(), 1);
        assert_eq!(memory(|second| if second == 5 { 201 } else { 10 }).growth(end, 200 << 20).len(), 1);
    }
}
