//! A measure as a bar chart: a bar to the median, a whisker to the 0.99 quantile.

use crate::measure::Measure;
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 120.0;
const ROW: f64 = 30.0;
const COLOURS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#999999", "#cc79a7"];

/// The SVG file.
pub(crate) fn bars(measure: &Measure) -> String {
    let largest = measure
        .series
        .iter()
        .map(|(_, samples)| samples.quantile(0.99))
        .fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / largest;
    let height = 50.0 + ROW * measure.series.len() as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/><text x=\"10\" y=\"24\" font-size=\"15\">{}</text>",
        escaped(&measure.title)
    );
    for (row, ((name, samples), colour)) in measure
        .series
        .iter()
        .zip(COLOURS.iter().cycle())
        .enumerate()
    {
        let y = 40.0 + ROW * row as f64;
        let (median, end) = (
            samples.median() * scale,
            LEFT + samples.quantile(0.99) * scale,
        );
        let (label, middle, top, bottom, baseline) =
            (LEFT - 8.0, y + 10.0, y + 5.0, y + 15.0, y + 15.0);
        let value = end.max(LEFT + median) + 6.0;
        let (name, unit, number) = (escaped(name), measure.unit.label(), samples.median());
        let from = LEFT + median;
        let _ = write!(
            text,
            "<text x=\"{label}\" y=\"{baseline}\" text-anchor=\"end\">{name}</text>\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{median:.1}\" height=\"20\" fill=\"{colour}\"/>\
             <path d=\"M{from:.1} {middle}H{end:.1}M{end:.1} {top}V{bottom}\" stroke=\"black\" fill=\"none\"/>\
             <text x=\"{value:.1}\" y=\"{baseline}\">{number:.2} {unit}</text>"
        );
    }
    text.push_str("</svg>\n");
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
