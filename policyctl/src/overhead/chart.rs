//! Charts as SVG, which are drawn here and run nothing.

use std::fmt::{self, Write};

use stockade_conformance::overhead::{Bound, Comparison, Figure, Unit};

use crate::page::Text;

/// A bar's width, in units of its picture.
const WIDE: f64 = 240.0;
/// How many times the target are at each end of a bar, as a power of ten.
const DECADES: f64 = 2.0;

/// Where a figure stands beside its target, which is the line in the middle; a hundredth of it is at the left end and a
/// hundred times it at the right. Of a ratio it is the overhead that counts, what it has beyond 1.
pub(super) fn beside_target(figure: Figure, unit: Unit, bound: Bound) -> String {
    let (Bound::Most(target) | Bound::Least(target)) = bound;
    let beyond = if unit == Unit::Ratio && target > 1.0 { 1.0 } else { 0.0 };
    let times = |amount: f64| (amount - beyond).max(0.0) / (target - beyond);
    let at = |amount: f64| {
        let decades = times(amount).log10();
        let decades = if decades.is_nan() { -DECADES } else { decades };
        (decades.clamp(-DECADES, DECADES) + DECADES) / (2.0 * DECADES) * WIDE
    };
    let (low, high) = (at(figure.low - figure.noise), at(figure.high + figure.noise));
    format!(
        "<svg class=\"bar\" viewBox=\"0 0 {WIDE} 14\" role=\"img\" aria-label=\"{:.2} times the target\">\
         <rect class=\"track\" x=\"0\" y=\"5\" width=\"{WIDE}\" height=\"4\"/>\
         <rect class=\"range\" x=\"{low:.1}\" y=\"3\" width=\"{:.1}\" height=\"8\"/>\
         <line class=\"goal\" x1=\"{}\" x2=\"{}\" y1=\"0\" y2=\"14\"/>\
         <circle class=\"mark\" cx=\"{:.1}\" cy=\"7\" r=\"3.5\"/></svg>",
        times(figure.value),
        (high - low).max(1.0),
        WIDE / 2.0,
        WIDE / 2.0,
        at(figure.value),
    )
}

/// The picture that a curve is drawn in, its margins left out.
const PLOT: (f64, f64) = (520.0, 220.0);
/// Room for the numbers at the left and below.
const MARGIN: (f64, f64) = (70.0, 28.0);
/// Curves beyond these have no colour of their own.
const COLOURS: usize = 6;

/// How time grows with the work: one line for each way, both axes logarithmic.
pub(super) fn curve(points: &[&Comparison]) -> Result<String, fmt::Error> {
    let sized = || points.iter().filter_map(|point| Some((point.size.as_ref()?, *point)));
    let counts: Vec<f64> = sized().map(|(size, _)| logarithm(size.count)).collect();
    let nanos = sized().flat_map(|(_, point)| &point.ways).map(|way| way.nanos.log10());
    let nanos: Vec<f64> = nanos.filter(|log| log.is_finite()).collect();
    let (across, up) = (Axis::of(&counts, PLOT.0), Axis::of(&nanos, PLOT.1));
    let mut svg = format!(
        "<svg class=\"curve\" viewBox=\"0 0 {} {}\" role=\"img\">",
        PLOT.0 + MARGIN.0 + 30.0,
        PLOT.1 + MARGIN.1 + 8.0
    );
    for decade in up.decades() {
        let y = 8.0 + PLOT.1 - up.at(decade);
        let label = Unit::Nanoseconds.shown(10_f64.powf(decade));
        write!(
            svg,
            "<line class=\"grid\" x1=\"{0}\" x2=\"{1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{label}</text>",
            MARGIN.0,
            MARGIN.0 + PLOT.0,
            MARGIN.0 - 6.0,
            y + 4.0
        )?;
    }
    for (size, _) in sized() {
        let x = MARGIN.0 + across.at(logarithm(size.count));
        write!(
            svg,
            "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            PLOT.1 + MARGIN.1,
            size.count
        )?;
    }
    let names = points.first().map(|point| point.ways.iter().map(|way| &way.name));
    for (number, name) in names.into_iter().flatten().enumerate() {
        let along = sized().filter_map(|(size, point)| {
            let way = point.ways.iter().find(|way| way.name == *name)?;
            let (x, y) = (across.at(logarithm(size.count)), up.at(way.nanos.log10()));
            Some(format!("{:.1},{:.1}", MARGIN.0 + x, 8.0 + PLOT.1 - y))
        });
        let along: Vec<String> = along.collect();
        let colour = number.min(COLOURS - 1);
        write!(
            svg,
            "<polyline class=\"line c{colour}\" points=\"{}\"><title>{}</title></polyline>",
            along.join(" "),
            Text(name)
        )?;
        for place in &along {
            if let Some((x, y)) = place.split_once(',') {
                write!(svg, "<circle class=\"dot c{colour}\" cx=\"{x}\" cy=\"{y}\" r=\"3\"/>")?;
            }
        }
    }
    svg.push_str("</svg>\n<p class=\"facts\">");
    let names = points.first().map(|point| point.ways.iter().map(|way| &way.name));
    for (number, name) in names.into_iter().flatten().enumerate() {
        let colour = number.min(COLOURS - 1);
        write!(
            svg,
            "<span class=\"key c{colour}\">&#9679;</span> {} &ensp;",
            Text(name)
        )?;
    }
    svg.push_str("</p>\n");
    Ok(svg)
}

#[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
fn logarithm(count: u64) -> f64 {
    (count.max(1) as f64).log10()
}

/// A logarithmic axis.
struct Axis {
    low: f64,
    high: f64,
    long: f64,
}

impl Axis {
    fn of(logarithms: &[f64], long: f64) -> Self {
        let low = logarithms.iter().copied().fold(f64::INFINITY, f64::min);
        let high = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low.is_finite() && high > low {
            (low, high)
        } else {
            (0.0, 1.0)
        };
        Self { low, high, long }
    }

    fn at(&self, logarithm: f64) -> f64 {
        let part = (logarithm - self.low) / (self.high - self.low);
        if part.is_finite() {
            part.clamp(0.0, 1.0) * self.long
        } else {
            0.0
        }
    }

    /// Whole powers of ten on it: few, however far apart its ends are.
    fn decades(&self) -> impl Iterator<Item = f64> {
        let first = self.low.ceil();
        let step = ((self.high - first) / 8.0).ceil().max(1.0);
        let high = self.high;
        std::iter::successors(Some(first), move |decade| Some(decade + step))
            .take_while(move |decade| *decade <= high)
            .take(20)
    }
}
