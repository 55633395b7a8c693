//! The results as a table, as JSON and as plots.

use crate::{measure::Measure, svg};
use serde_json::json;
use std::{fmt::Write, fs, io, path::Path};

/// Every measure of a run.
#[derive(Default)]
pub(crate) struct Report {
    /// In the order of measuring.
    pub measures: Vec<Measure>,
}

/// The lines of the table for a measure.
pub(crate) fn rows(measure: &Measure) -> String {
    let mut text = format!("\n{}\n", measure.title);
    let ratios = measure.ratios();
    for (name, samples) in &measure.series {
        let ratio = ratios
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, ratio)| format!("  ours is {ratio:.2} times as good"));
        let unit = measure.unit.label();
        let _ = writeln!(
            text,
            "  {name:22} median {:>9.2} {unit:3} p99 {:>9.2} {unit:3} n={:<4}{}",
            samples.median(),
            samples.quantile(0.99),
            samples.0.len(),
            ratio.unwrap_or_default()
        );
    }
    text
}

impl Report {
    /// Writes `bench.txt`, `bench.json` and the plots.
    pub(crate) fn write(&self, out: &Path) -> io::Result<()> {
        fs::write(
            out.join("bench.txt"),
            self.measures.iter().map(rows).collect::<String>(),
        )?;
        let measures: Vec<_> = self.measures.iter().map(measure_json).collect();
        fs::write(
            out.join("bench.json"),
            serde_json::to_string_pretty(&json!({ "measures": measures }))?,
        )?;
        for (number, measure) in (1..).zip(&self.measures) {
            fs::write(out.join(format!("{number:02}.svg")), svg::bars(measure))?;
        }
        Ok(())
    }
}

fn measure_json(measure: &Measure) -> serde_json::Value {
    let series: Vec<_> = measure
        .series
        .iter()
        .map(|(name, samples)| json!({ "name": name, "median": samples.median(), "p99": samples.quantile(0.99), "samples": samples.0 }))
        .collect();
    let ratios: serde_json::Map<_, _> = measure
        .ratios()
        .into_iter()
        .map(|(name, ratio)| (name, json!(ratio)))
        .collect();
    json!({ "title": measure.title, "unit": measure.unit.label(), "series": series, "ratios": ratios })
}
