//! Plots of a run, as SVG: the same run always gives the same bytes.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::model::Run;
use crate::peers::name;
use crate::work::grouped;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: u32 = 960;

/// Room at the right of a plot for the names of its lines.
const NAMES: u32 = 170;

/// Distance of two lines of text.
const LINE: i32 = 17;

const INK: RGBColor = RGBColor(40, 40, 40);
const PALE: RGBColor = RGBColor(225, 225, 225);

/// All plots, by their files' names.
pub fn all(run: &Run) -> Result<Vec<(String, String)>> {
    let mut plots = Vec::new();
    let mut add = |name: &str, svg: Result<Option<String>>| -> Result<()> {
        plots.extend(svg?.map(|svg| (format!("{name}.svg"), svg)));
        Ok(())
    };
    add("oneway", one_way(run))?;
    add("roundtrip", round_trip(run))?;
    add("growth", growth(run))?;
    Ok(plots)
}

/// A peer's colour, told apart by those who see no red or no green, and how thick its line is.
fn style(peer: &str) -> (RGBColor, u32) {
    match peer {
        "ipcfs-uring" => (RGBColor(213, 94, 0), 4),
        "ipcfs-dev" => (RGBColor(215, 143, 0), 4),
        "fifo" => (RGBColor(0, 0, 0), 2),
        "socket" => (RGBColor(110, 110, 110), 2),
        "mq" => (RGBColor(0, 114, 178), 2),
        "redis-list" => (RGBColor(0, 158, 115), 2),
        "redis-stream" => (RGBColor(120, 190, 140), 2),
        "nats" => (RGBColor(148, 80, 160), 2),
        "folder" => (RGBColor(86, 180, 233), 2),
        _ => (RGBColor(160, 160, 160), 1),
    }
}

/// Text at a place, its left end or its middle there.
fn text(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: u32,
    colour: RGBColor,
    anchor: HPos,
) -> Result<()> {
    let style = ("sans-serif", f64::from(size)).into_text_style(area).color(&colour);
    area.draw_text(text, &style.pos(Pos::new(anchor, VPos::Center)), at).map_err(|error| anyhow!("{error}"))
}

/// Draws on a white sheet of that height, with a title.
fn sheet(title: &str, height: u32, draw: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
        text(&area, title, (20, 24), 18, INK, HPos::Left)?;
        draw(&area)?;
        area.present().map_err(|error| anyhow!("{error}"))?;
    }
    Ok(svg)
}

/// A peer and where it was measured.
struct Line {
    peer: String,
    points: Vec<(f64, f64)>,
}

/// What the axes of a plot of lines say.
struct Axes<'a> {
    title: &'a str,
    ticks: &'a [(String, f64)],
    /// Least and most microseconds.
    range: (f64, f64),
    /// Whether there is room at the right for the lines' names.
    named: bool,
}

fn lines(area: &Area<'_>, axes: &Axes<'_>, lines: &[Line]) -> Result<()> {
    let err = |error| anyhow!("{error:?}");
    let (Some(first), Some(last)) = (axes.ticks.first(), axes.ticks.last()) else { return Ok(()) };
    let mut chart = ChartBuilder::on(area)
        .margin_left(10)
        .margin_top(36)
        .margin_right(if axes.named { NAMES } else { 14 })
        .margin_bottom(44)
        .y_label_area_size(58)
        .build_cartesian_2d(
            (first.1 * 0.8..last.1 * 1.25).log_scale(),
            (axes.range.0..axes.range.1).log_scale(),
        )
        .map_err(err)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(WHITE)
        .bold_line_style(PALE)
        .axis_style(PALE)
        .y_label_style(("sans-serif", 13).into_font().color(&INK))
        .y_label_formatter(&|y| {
            if *y < 1.0 { format!("{y} µs") } else { format!("{} µs", grouped(y.round() as usize)) }
        })
        .draw()
        .map_err(err)?;
    let bottom = area.dim_in_pixel().1 as i32;
    text(area, axes.title, (area.dim_in_pixel().0 as i32 / 2, 18), 15, INK, HPos::Center)?;
    for (label, x) in axes.ticks {
        let (x, _) = chart.backend_coord(&(*x, axes.range.0));
        // Where on the sheet, less where this area is on it.
        let x = x - area.get_base_pixel().0;
        text(area, label, (x, bottom - 30), 13, INK, HPos::Center)?;
    }
    let mut ends = Vec::new();
    for line in lines {
        let (colour, width) = style(&line.peer);
        let stroke = colour.stroke_width(width);
        chart.draw_series(LineSeries::new(line.points.iter().copied(), stroke)).map_err(err)?;
        let dots = line.points.iter().map(|point| Circle::new(*point, width + 1, colour.filled()));
        chart.draw_series(dots).map_err(err)?;
        if let Some(end) = line.points.last() {
            let (x, y) = chart.backend_coord(end);
            let (left, top) = area.get_base_pixel();
            ends.push((y - top, x - left, name(&line.peer), colour));
        }
    }
    if axes.named {
        let right = area.dim_in_pixel().0 as i32 - NAMES as i32 + 8;
        let places = spread(&mut ends, bottom - 44);
        for ((_, _, name, colour), y) in ends.iter().zip(places) {
            text(area, name, (right, y), 14, *colour, HPos::Left)?;
        }
    }
    Ok(())
}

/// Sorts what stands at these heights, and moves it apart so that no two lines of text overlap.
fn spread<T>(ends: &mut [(i32, i32, T, RGBColor)], lowest: i32) -> Vec<i32> {
    ends.sort_by_key(|(y, ..)| *y);
    let mut places: Vec<i32> = ends.iter().map(|(y, ..)| *y).collect();
    for index in 1..places.len() {
        places[index] = places[index].max(places[index - 1] + LINE);
    }
    let mut most = lowest;
    for place in places.iter_mut().rev() {
        *place = (*place).min(most);
        most = *place - LINE;
    }
    places
}

/// The decades around all values.
fn range(lines: &[Line]) -> (f64, f64) {
    let values = || lines.iter().flat_map(|line| &line.points).map(|point| point.1);
    let least = values().fold(f64::INFINITY, f64::min);
    let most = values().fold(0.0, f64::max);
    (10_f64.powf(least.log10().floor()), 10_f64.powf(most.log10().ceil()))
}

fn series(run: &Run, case: &str, metric: &str) -> Vec<Line> {
    let mut peers = run.peers(case);
    peers.sort_by_key(|peer| (style(peer).1, peer.clone()));
    peers
        .into_iter()
        .map(|peer| Line { points: run.growth(case, &peer, metric), peer })
        .filter(|line| !line.points.is_empty())
        .collect()
}

fn one_way(run: &Run) -> Result<Option<String>> {
    let all = series(run, "oneway", "time");
    if all.is_empty() {
        return Ok(None);
    }
    let axes = Axes { title: "", ticks: &run.points("oneway"), range: range(&all), named: true };
    sheet("One process sends, another receives: time for a message, by its size", 500, |area| {
        lines(area, &axes, &all)
    })
    .map(Some)
}

fn round_trip(run: &Run) -> Result<Option<String>> {
    let point = "64 B";
    let of =
        |peer: &str, metric: &str| run.figure("roundtrip", point, peer, metric).map(|figure| figure.median);
    let mut rows: Vec<(String, [f64; 3])> = run
        .peers("roundtrip")
        .into_iter()
        .filter_map(|peer| Some(([of(&peer, "p50")?, of(&peer, "p99")?, of(&peer, "p99.9")?], peer)))
        .map(|(values, peer)| (peer, values))
        .collect();
    if rows.is_empty() {
        return Ok(None);
    }
    rows.sort_by(|a, b| a.1[0].total_cmp(&b.1[0]));
    let most = rows.iter().map(|row| row.1[2]).fold(1.0, f64::max);
    let (left, right, row_height, top) = (180, WIDTH as i32 - 40, 34, 62);
    let decades = most.log10().ceil();
    let x = |us: f64| left + (us.max(1.0).log10() / decades * f64::from(right - left)) as i32;
    let bottom = top + row_height * rows.len() as i32;
    let title = "A message of 64 B to another process and back: half of them take as long as the dot, 99 % as the bar";
    let svg = sheet(title, (bottom + 50) as u32, |area| {
        let draw = |path: &[(i32, i32)], style: ShapeStyle| {
            area.draw(&PathElement::new(path.to_vec(), style)).map_err(|error| anyhow!("{error}"))
        };
        for decade in 0..=decades as i32 {
            let us = 10_f64.powi(decade);
            draw(&[(x(us), top - 8), (x(us), bottom)], PALE.stroke_width(1))?;
            let label = format!("{} µs", grouped(us as usize));
            text(area, &label, (x(us), bottom + 14), 13, INK, HPos::Center)?;
        }
        for (index, (peer, [p50, p99, p999])) in rows.iter().enumerate() {
            let y = top + row_height * index as i32 + row_height / 2;
            let (colour, width) = style(peer);
            text(area, name(peer), (left - 14, y), 14, colour, HPos::Right)?;
            draw(&[(x(*p50), y), (x(*p99), y)], colour.mix(0.55).stroke_width(2 * width + 4))?;
            draw(&[(x(*p99), y), (x(*p999), y)], colour.stroke_width(1))?;
            draw(&[(x(*p999), y - 6), (x(*p999), y + 6)], colour.stroke_width(2))?;
            area.draw(&Circle::new((x(*p50), y), 6, colour.filled())).map_err(|error| anyhow!("{error}"))?;
        }
        text(area, "the tick: 99.9 %", (right, bottom + 34), 13, INK, HPos::Right)
    });
    svg.map(Some)
}

fn growth(run: &Run) -> Result<Option<String>> {
    let panels = [
        ("depth", "messages that wait"),
        ("blocked", "readers that wait elsewhere"),
        ("mailboxes", "mailboxes (opened each time)"),
    ];
    let all: Vec<Vec<Line>> = panels.iter().map(|(case, _)| series(run, case, "time")).collect();
    if all.iter().all(Vec::is_empty) {
        return Ok(None);
    }
    let range = all
        .iter()
        .map(|lines| range(lines))
        .fold((f64::INFINITY, 0.0), |a: (f64, f64), b| (a.0.min(b.0), a.1.max(b.1)));
    let title = "A send and a receive, however many others there are";
    let svg = sheet(title, 420, |sheet| {
        let (_, body) = sheet.split_vertically(36);
        let (body, key) = body.split_vertically(350);
        for (((case, what), lines_of), area) in panels.iter().zip(&all).zip(body.split_evenly((1, 3))) {
            let ticks: Vec<(String, f64)> =
                run.points(case).into_iter().map(|(_, x)| (short(x), x)).collect();
            let ticks: Vec<(String, f64)> =
                ticks.into_iter().filter(|(_, x)| x.log10().fract() == 0.0).collect();
            lines(&area, &Axes { title: what, ticks: &ticks, range, named: false }, lines_of)?;
        }
        let mut peers: Vec<&str> = all.iter().flatten().map(|line| line.peer.as_str()).collect();
        peers.sort_unstable();
        peers.dedup();
        let mut x = 80;
        for peer in peers {
            let (colour, width) = style(peer);
            let stroke = PathElement::new(vec![(x, 14), (x + 30, 14)], colour.stroke_width(width));
            key.draw(&stroke).map_err(|error| anyhow!("{error}"))?;
            text(&key, name(peer), (x + 38, 14), 14, colour, HPos::Left)?;
            x += 210;
        }
        Ok(())
    });
    svg.map(Some)
}

/// 10k rather than 10,000.
fn short(n: f64) -> String {
    match n as usize {
        n if n >= 1_000_000 => format!("{}M", n / 1_000_000),
        n if n >= 1000 => format!("{}k", n / 1000),
        n => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_overlap() {
        let mut ends: Vec<_> = [50, 10, 52, 51, 299].map(|y| (y, 0, "", INK)).to_vec();
        let places = spread(&mut ends, 300);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= LINE), "{places:?}");
        assert!(places.iter().all(|place| (0..=300).contains(place)), "{places:?}");
    }

    #[test]
    fn a_range_is_of_whole_decades() {
        let line = Line { peer: String::new(), points: vec![(1.0, 3.0), (2.0, 420.0)] };
        let (least, most) = range(&[line]);
        assert!((least - 1.0).abs() < 1e-9 && (most - 1000.0).abs() < 1e-9, "{least} {most}");
    }
}
