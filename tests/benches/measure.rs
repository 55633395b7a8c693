//! Samples and what is said of them.

use crate::contender::OURS;
use std::time::Duration;

/// What a number counts; smaller is better unless it is a rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// milliseconds
    Ms,
    /// operations per second
    PerSecond,
    /// kilobytes
    Kb,
    /// a plain count
    Count,
}

impl Unit {
    /// As a column shows it.
    pub fn label(self) -> &'static str {
        match self {
            Unit::Ms => "ms",
            Unit::PerSecond => "/s",
            Unit::Kb => "kB",
            Unit::Count => "",
        }
    }
}

/// One line of the table: the samples of each contender for one thing.
pub struct Measure {
    /// "ADD flannel -> bridge -> host-local"
    pub title: String,
    /// of the samples
    pub unit: Unit,
    /// contender's name and its samples, in order of their first sample
    pub series: Vec<(String, Samples)>,
}

impl Measure {
    /// Without samples yet.
    pub fn new(title: impl Into<String>, unit: Unit) -> Measure {
        Measure {
            title: title.into(),
            unit,
            series: Vec::new(),
        }
    }

    /// Adds a sample to a contender's series.
    pub fn add(&mut self, name: &str, value: f64) {
        match self.series.iter_mut().find(|(other, _)| other == name) {
            Some((_, samples)) => samples.0.push(value),
            None => self.series.push((name.to_owned(), Samples(vec![value]))),
        }
    }

    /// Adds a time in milliseconds.
    pub fn add_time(&mut self, name: &str, time: Duration) {
        self.add(name, time.as_secs_f64() * 1e3);
    }

    /// How many times better our median is than the others' (for a rate: higher).
    pub fn ratios(&self) -> Vec<(String, f64)> {
        let Some((_, ours)) = self.series.iter().find(|(name, _)| name == OURS) else {
            return Vec::new();
        };
        let ours = ours.median();
        let better = |other: f64| {
            if self.unit == Unit::PerSecond {
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

/// Numbers of one kind, in order of measuring.
pub struct Samples(pub Vec<f64>);

impl Samples {
    /// The middle one.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The value that this part of the samples does not exceed (nearest rank).
    pub fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (part * sorted.len() as f64).ceil() as usize;
        sorted
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or(f64::NAN)
    }
}
