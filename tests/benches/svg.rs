//! One measure as a bar chart: a bar to the median, a whisker to p99.

use std::fmt::Write;

use crate::measure::Measure;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 120.0;
const ROW: f64 = 30.0;
const COLOURS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#999999", "#cc79a7"];

/// The whole SVG file.
pub fn bars(measure: &Measure) -> String {
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
        let (median, p99) = (samples.median() * scale, samples.quantile(0.99) * scale);
        let middle = y + 10.0;
        let _ = write!(
            text,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{median:.1}\" height=\"20\" fill=\"{colour}\"/>\
             <path d=\"M{:.1} {middle}H{:.1}M{1:.1} {}V{}\" stroke=\"black\" fill=\"none\"/>\
             <text x=\"{:.1}\" y=\"{}\">{:.2} {}</text>",
            LEFT - 8.0,
            y + 15.0,
            escaped(name),
            LEFT + median,
            LEFT + p99,
            y + 5.0,
            y + 15.0,
            LEFT + p99.max(median) + 6.0,
            y + 15.0,
            samples.median(),
            measure.unit.label()
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
