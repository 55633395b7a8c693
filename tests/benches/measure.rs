//! Measures and their samples.

use crate::contender::OURS;
use std::time::Duration;

/// The unit of a measure. Smaller is better, except for rates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unit {
    /// Milliseconds.
    Ms,
    /// Operations per second.
    PerSecond,
    /// Kilobytes (1,000 bytes).
    Kb,
    /// Megabits (1,000,000 bits) per second.
    MbitPerSecond,
    /// Seconds of a processor per gigabyte (1,000,000,000 bytes).
    SecondsPerGb,
    /// Microseconds.
    Us,
    /// A number without unit.
    Count,
}

impl Unit {
    /// The unit as the table prints it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Unit::Ms => "ms",
            Unit::PerSecond => "/s",
            Unit::Kb => "kB",
            Unit::MbitPerSecond => "Mbit/s",
            Unit::SecondsPerGb => "s/GB",
            Unit::Us => "us",
            Unit::Count => "",
        }
    }
}

/// The samples of each contender for one thing.
pub(crate) struct Measure {
    /// For example "ADD flannel -> bridge -> host-local".
    pub title: String,
    /// Unit of the samples.
    pub unit: Unit,
    /// Names of the contenders and their samples, in the order of the first sample.
    pub series: Vec<(String, Samples)>,
}

impl Measure {
    /// A measure without samples.
    pub(crate) fn new(title: impl Into<String>, unit: Unit) -> Measure {
        Measure {
            title: title.into(),
            unit,
            series: Vec::new(),
        }
    }

    /// Adds a sample of a contender.
    pub(crate) fn add(&mut self, name: &str, value: f64) {
        match self.series.iter_mut().find(|(other, _)| other == name) {
            Some((_, samples)) => samples.0.push(value),
            None => self.series.push((name.to_owned(), Samples(vec![value]))),
        }
    }

    /// Adds a time, as milliseconds.
    pub(crate) fn add_time(&mut self, name: &str, time: Duration) {
        self.add(name, time.as_secs_f64() * 1e3);
    }

    /// By which factor our median is better than that of each other contender.
    pub(crate) fn ratios(&self) -> Vec<(String, f64)> {
        let Some((_, ours)) = self.series.iter().find(|(name, _)| name == OURS) else {
            return Vec::new();
        };
        let ours = ours.median();
        let better = |other: f64| {
            if matches!(self.unit, Unit::PerSecond | Unit::MbitPerSecond) {
                ours / other
            } else {
                other / ours
            }
        };
        self.series
            .iter()
            .filter(|(name, _)| name != OURS)
            .map(|(name, samples)| (name.clone(), better(samples.median())))
            .collect()
    }
}

/// Samples in the order of measuring.
pub(crate) struct Samples(pub Vec<f64>);

impl Samples {
    /// The 0.5 quantile.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The value that `fraction` of the samples do not exceed (nearest rank).
    pub(crate) fn quantile(&self, fraction: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (fraction * sorted.len() as f64).ceil() as usize;
        sorted
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or(f64::NAN)
    }
}
