//! The figures of a run as pictures: a bar for each peer, with a whisker from the least round to the most.

use std::path::Path;

use plotters::{
    prelude::{Color, DrawingArea, IntoDrawingArea, IntoFont, PathElement, RGBColor, Rectangle, SVGBackend, Text},
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    load::Failure,
    mode::{Figure, Flavor, Mode},
    record::Case,
    stats::Spread,
    summary::Summary,
    table::thousands,
};

/// Draws a picture of each mode's figure, and one of its CPU time for each call.
///
/// # Errors
/// When a file cannot be written.
pub fn draw(summary: &Summary<'_>, folder: &Path) -> Result<(), Failure> {
    for mode in summary.modes() {
        let better = if mode.figure() == Figure::Rate { "more is better" } else { "less is better" };
        let title = format!("{}: {} ({better})", mode.title(), mode.figure().title());
        let path = folder.join(format!("{}.svg", mode.name()));
        chart(&path, &title, &bars(summary, mode, |case| summary.figure(case)))?;
        let title = format!("{}: CPU time of all processes, µs/call (less is better)", mode.title());
        let path = folder.join(format!("{}-cpu.svg", mode.name()));
        chart(&path, &title, &bars(summary, mode, |case| summary.cpu_us_per_call(case)))?;
    }
    Ok(())
}

struct Bar {
    case: Case,
    figure: Spread,
}

/// A bar for each case that has a figure.
fn bars(summary: &Summary<'_>, mode: Mode, figure: impl Fn(Case) -> Option<Spread>) -> Vec<Bar> {
    let cases = summary.cases(mode).into_iter();
    cases.filter_map(|case| Some(Bar { case, figure: figure(case)? })).collect()
}

fn chart(path: &Path, title: &str, bars: &[Bar]) -> Result<(), Failure> {
    let height = TOP + bars.len() as i32 * ROW + MARGIN;
    let area = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    text(&area, title, (MARGIN, TOP / 2), 17, HPos::Left)?;
    let most = bars.iter().map(|bar| bar.figure.max).fold(f64::MIN_POSITIVE, f64::max);
    for (index, bar) in bars.iter().enumerate() {
        draw_bar(&area, bar, TOP + index as i32 * ROW, most)?;
    }
    area.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw_bar(area: &Area<'_>, Bar { case, figure }: &Bar, top: i32, most: f64) -> Result<(), Failure> {
    let (middle, bottom) = (top + ROW / 2 - 2, top + ROW - 4);
    let end = |value: f64| LEFT + (value / most * f64::from(RIGHT - LEFT)) as i32;
    let runtime = case.runtime.map_or_else(String::new, |runtime| format!(" ({})", runtime.name()));
    text(area, &format!("{}{runtime}", case.peer.name()), (LEFT - 8, middle), 13, HPos::Right)?;
    area.draw(&Rectangle::new([(LEFT, top), (end(figure.median), bottom)], color(*case).filled()))?;
    let whisker = [(end(figure.min), middle), (end(figure.max), middle)];
    area.draw(&PathElement::new(whisker, INK.stroke_width(2)))?;
    let value = match figure.median {
        value if value >= 1_000.0 => thousands(value.round() as u64),
        value => format!("{value:.1}"),
    };
    text(area, &value, (end(figure.max.max(figure.median)) + 6, middle), 13, HPos::Left)
}

fn text(area: &Area<'_>, words: &str, at: (i32, i32), size: i32, anchor: HPos) -> Result<(), Failure> {
    let style = ("sans-serif", size).into_font().color(&INK).pos(Pos::new(anchor, VPos::Center));
    area.draw(&Text::new(words.to_owned(), at, style))?;
    Ok(())
}

/// Xero is orange, others are blue; a current-thread runtime is lighter.
fn color(case: Case) -> RGBColor {
    let is_light = case.runtime == Some(Flavor::CurrentThread);
    match (case.peer.name().starts_with("xero"), is_light) {
        (true, false) => RGBColor(230, 126, 34),
        (true, true) => RGBColor(243, 190, 143),
        (false, false) => RGBColor(69, 117, 180),
        (false, true) => RGBColor(160, 190, 224),
    }
}

const INK: RGBColor = RGBColor(34, 34, 34);
const WHITE: RGBColor = RGBColor(255, 255, 255);

/// Pixels: the picture's width, a row's height, and where titles, labels and bars end.
const WIDTH: i32 = 860;
const ROW: i32 = 22;
const TOP: i32 = 44;
const LEFT: i32 = 210;
const RIGHT: i32 = 760;
const MARGIN: i32 = 12;

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::*;
    use crate::{
        peer::Peer,
        summary::tests::{failed, measured},
    };

    #[test]
    fn picture_names_each_peer_that_has_figures() {
        let records = [measured(1, Peer::Tarpc, 40_000), measured(1, Peer::Xero, 90_000), failed(1, Peer::Tonic)];
        let folder = env::temp_dir().join(format!("xero-bench-plot-{}", process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        draw(&Summary::new(&records), &folder).expect("draws");
        let picture = fs::read_to_string(folder.join("in-flight-64.svg")).expect("is written");
        fs::remove_dir_all(&folder).expect("is removed");
        for words in ["tarpc (multi-thread)", "xero (multi-thread)", "90,000", "more is better"] {
            assert!(picture.contains(words), "{picture}");
        }
        assert!(!picture.contains("tonic"));
    }
}
