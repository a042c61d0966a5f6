//! The figures of a run as Markdown.

use std::fmt::{self, Display, Formatter};

use crate::{
    mode::{Figure, Flavor, Mode},
    peer::Peer,
    record::Case,
    stats::Spread,
    summary::{REFERENCES, Summary},
    targets,
};

/// A table for each mode, then the targets.
#[derive(Debug)]
pub struct Tables<'a>(pub Summary<'a>);

impl Display for Tables<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for mode in self.0.modes() {
            mode_table(f, &self.0, mode)?;
        }
        targets_table(f, &self.0)
    }
}

fn mode_table(f: &mut Formatter<'_>, summary: &Summary<'_>, mode: Mode) -> fmt::Result {
    let cases = summary.cases(mode);
    let references: Vec<_> =
        REFERENCES.into_iter().filter(|reference| cases.iter().any(|case| case.peer == *reference)).collect();
    writeln!(f, "### {}\n", mode.title())?;
    if let Some(Spread { median, min, max }) = summary.cpus_elsewhere(mode) {
        writeln!(f, "Other work kept {median:.2} CPUs busy meanwhile ({min:.2}–{max:.2}).\n")?;
    }
    write!(f, "| peer | runtime | {} | min–max |", mode.figure().title())?;
    references.iter().try_for_each(|reference| write!(f, " × {} |", reference.name()))?;
    writeln!(f, " CPU µs/call | peak MiB |")?;
    writeln!(f, "|---|---|{}", "---:|".repeat(references.len() + 4))?;
    for case in cases {
        write!(f, "| {} | {} |", case.peer.name(), runtime(case))?;
        match summary.figure(case) {
            Some(figure) => measured_row(f, summary, case, figure, &references)?,
            None => writeln!(
                f,
                " {} |{}",
                summary.error(case).unwrap_or_default().replace('|', "/"),
                " |".repeat(references.len() + 3)
            )?,
        }
    }
    writeln!(f)
}

fn measured_row(
    f: &mut Formatter<'_>,
    summary: &Summary<'_>,
    case: Case,
    figure: Spread,
    references: &[Peer],
) -> fmt::Result {
    let kind = case.mode.figure();
    let [median, min, max] = [figure.median, figure.min, figure.max].map(|value| shown(kind, value));
    write!(f, " {median} | {min}–{max} |")?;
    for reference in references {
        let ratio = summary.ratio(case, *reference).filter(|_| case.peer != *reference);
        write!(f, " {} |", ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.median)))?;
    }
    let cpu = summary.cpu_us_per_call(case).map_or_else(String::new, |cpu| format!("{:.1}", cpu.median));
    let peaks = ["client", "server", "broker"].map(|part| summary.peak_mib(case, part));
    let peaks: Vec<_> = peaks.into_iter().flatten().map(|peak| format!("{:.0}", peak.median)).collect();
    writeln!(f, " {cpu} | {} |", peaks.join(" + "))
}

fn targets_table(f: &mut Formatter<'_>, summary: &Summary<'_>) -> fmt::Result {
    writeln!(f, "### Targets\n")?;
    writeln!(
        f,
        "| mode | peer | measure | runtime | measured | must | goal | |\n|---|---|---|---|---:|---:|---:|---|"
    )?;
    for verdict in targets::verdicts(summary) {
        let target = verdict.target;
        write!(f, "| {} | {} | {} |", target.mode.title(), target.peer.name(), target.measure)?;
        writeln!(
            f,
            " {} | {:.2} | {} | {} | {} |",
            verdict.runtime.name(),
            verdict.measured,
            target.shown(verdict.must),
            target.shown(target.goal),
            verdict.word()
        )?;
    }
    Ok(())
}

fn runtime(case: Case) -> String {
    case.runtime.map_or_else(|| "–".to_owned(), Flavor::name)
}

/// Latencies with a decimal, rates with their thousands apart.
fn shown(figure: Figure, value: f64) -> String {
    match figure {
        Figure::Rate => thousands(value.round() as u64),
        _ => format!("{value:.1}"),
    }
}

/// A number with its thousands apart.
pub(crate) fn thousands(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", thousands(number / 1_000), number % 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::{failed, measured};

    #[test]
    fn table_has_figures_ratios_costs_and_reasons() {
        let records = [
            measured(1, Peer::Tarpc, 100_000),
            measured(1, Peer::Xero, 250_000),
            measured(2, Peer::Tarpc, 100_000),
            measured(2, Peer::Xero, 350_000),
            failed(1, Peer::Jsonrpsee),
        ];
        let tables = Tables(Summary::new(&records)).to_string();
        let lines: Vec<_> = tables.lines().collect();
        assert_eq!(lines[0], "### 64 in flight, one connection");
        assert_eq!(lines[2], "Other work kept 0.25 CPUs busy meanwhile (0.25–0.25).");
        let head = "| peer | runtime | calls/s | min–max | × tarpc | × xero | CPU µs/call | peak MiB |";
        assert_eq!(lines[4], head);
        assert_eq!(lines[5], "|---|---|---:|---:|---:|---:|---:|---:|");
        assert_eq!(lines[6], "| xero | multi-thread | 300,000 | 250,000–350,000 | 3.00 |  | 3.4 | 2 + 2 |");
        assert_eq!(lines[7], "| tarpc | multi-thread | 100,000 | 100,000–100,000 |  | 0.34 | 10.0 | 2 + 2 |");
        assert_eq!(lines[8], "| jsonrpsee | multi-thread | it broke | | | | | |");
        let columns = |line: &str| line.matches('|').count();
        assert!(lines[4..9].iter().all(|line| columns(line) == columns(head)), "{tables}");
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(12_034_056), "12,034,056");
    }
}
