//! Samples, and what is said of them.

use serde_json::{Value, json};

/// What was measured of one way to do a thing.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Who did it: `reconciler`, `crun`, `floor`.
    pub(crate) who: String,
    samples: Vec<f64>,
}

impl Series {
    pub(crate) fn new(who: &str) -> Self {
        Self {
            who: who.to_owned(),
            samples: Vec::new(),
        }
    }

    pub(crate) fn one(who: &str, sample: f64) -> Self {
        let mut series = Self::new(who);
        series.add(sample);
        series
    }

    pub(crate) fn add(&mut self, sample: f64) {
        let at = self.samples.partition_point(|other| *other < sample);
        self.samples.insert(at, sample);
    }

    pub(crate) fn count(&self) -> usize {
        self.samples.len()
    }

    /// The sample below which so many of a hundred lie; 0 without samples.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let last = self.samples.len().saturating_sub(1);
        let at = (last * percent).div_ceil(100);
        self.samples.get(at).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }
}

/// What a figure is held against.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// The median is at most so many times that of another.
    Times(f64, &'static str),
    /// The median is at least so many times that of another.
    TimesAtLeast(f64, &'static str),
    /// The sample of so many in a hundred is at most so much.
    Most(usize, f64),
    /// The median is at least so much.
    Least(f64),
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: Series,
    pub(crate) beside: Vec<Series>,
    pub(crate) targets: Vec<Target>,
    pub(crate) note: &'static str,
}

/// A target, and whether it was reached; none if there is nothing to hold against.
pub(crate) struct Verdict {
    pub(crate) text: String,
    pub(crate) reached: Option<bool>,
}

impl Figure {
    pub(crate) fn new(what: &str, unit: &'static str, ours: Series) -> Self {
        Self {
            what: what.to_owned(),
            unit,
            ours,
            beside: Vec::new(),
            targets: Vec::new(),
            note: "",
        }
    }

    pub(crate) fn beside(mut self, others: impl IntoIterator<Item = Series>) -> Self {
        let measured = |series: &Series| series.count() > 0;
        self.beside.extend(others.into_iter().filter(measured));
        self
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.targets.push(target);
        self
    }

    pub(crate) fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    /// How many times our median is another's.
    pub(crate) fn ratio(&self, who: &str) -> Option<f64> {
        let other = self.beside.iter().find(|series| series.who == who)?;
        Some(self.ours.median() / other.median())
    }

    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        let unit = self.unit;
        let verdict = |target: &Target| match target {
            Target::Times(most, who) => Verdict {
                text: format!("<= {most}x {who}"),
                reached: self.ratio(who).map(|ratio| ratio <= *most),
            },
            Target::TimesAtLeast(least, who) => Verdict {
                text: format!(">= {least}x {who}"),
                reached: self.ratio(who).map(|ratio| ratio >= *least),
            },
            Target::Most(percent, most) => Verdict {
                text: format!("p{percent} <= {most} {unit}"),
                reached: Some(self.ours.percentile(*percent) <= *most),
            },
            Target::Least(least) => Verdict {
                text: format!(">= {least} {unit}"),
                reached: Some(self.ours.median() >= *least),
            },
        };
        self.targets.iter().map(verdict).collect()
    }

    pub(crate) fn json(&self) -> Value {
        let series = |series: &Series| {
            json!({
                "who": series.who,
                "samples": series.count(),
                "min": series.percentile(0),
                "median": series.median(),
                "p99": series.percentile(99),
                "max": series.percentile(100),
            })
        };
        let verdicts = self.verdicts();
        let verdicts = verdicts
            .iter()
            .map(|one| json!({"target": one.text, "reached": one.reached}));
        json!({
            "what": self.what,
            "unit": self.unit,
            "ours": series(&self.ours),
            "beside": self.beside.iter().map(series).collect::<Vec<_>>(),
            "targets": verdicts.collect::<Vec<_>>(),
            "note": self.note,
        })
    }
}
