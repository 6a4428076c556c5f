//! One figure: what was measured, what it is compared with, and what it may be.

use serde_json::{Number, Value, json};

/// A number with its unit.
#[derive(Clone, Debug)]
pub struct Figure {
    value: f64,
    unit: &'static str,
    baseline: Option<f64>,
    limit: Option<Limit>,
    spread: Option<[f64; 2]>,
    note: String,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

/// The columns of the table.
pub const HEADING: [&str; 6] = ["figure", "value", "unit", "baseline", "limit", "note"];

impl Figure {
    /// Makes a figure that was counted: it is exact, unless it is told its [`spread`](Self::spread).
    pub fn new(value: f64, unit: &'static str) -> Self {
        Self {
            value,
            unit,
            baseline: None,
            limit: None,
            spread: None,
            note: String::new(),
        }
    }

    /// Sets what it is compared with.
    pub fn baseline(mut self, value: f64) -> Self {
        self.baseline = Some(value);
        self
    }

    /// Sets the most that it may be.
    pub fn at_most(mut self, value: f64) -> Self {
        self.limit = Some(Limit::AtMost(value));
        self
    }

    /// Sets the least that it may be.
    pub fn at_least(mut self, value: f64) -> Self {
        self.limit = Some(Limit::AtLeast(value));
        self
    }

    /// Sets the least and the most of the runs that a timed figure is the middle of.
    pub fn spread(mut self, least: f64, most: f64) -> Self {
        self.spread = Some([least, most]);
        self
    }

    /// Sets a note: what exactly was measured.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Returns whether it keeps to its limit.
    pub fn is_good(&self) -> bool {
        match self.limit {
            None => true,
            Some(Limit::AtMost(most)) => self.value <= most,
            Some(Limit::AtLeast(least)) => self.value >= least,
        }
    }

    /// Returns the figure as the report has it.
    pub fn to_json(&self) -> Value {
        let limit = self.limit.map(|limit| match limit {
            Limit::AtMost(value) | Limit::AtLeast(value) => number(value),
        });
        let mut json = json!({
            "value": number(self.value),
            "unit": self.unit,
            "baseline": self.baseline.map(number),
            "limit": limit,
            "note": self.note,
        });
        if let Some(spread) = self.spread {
            json["spread"] = spread.map(number).to_vec().into();
        }
        json
    }

    /// Returns the figure as the table has it.
    pub fn row(&self, name: &str) -> [String; 6] {
        let limit = match self.limit {
            None => String::new(),
            Some(Limit::AtMost(most)) => format!("<= {}", text(most)),
            Some(Limit::AtLeast(least)) => format!(">= {}", text(least)),
        };
        let verdict = if self.is_good() { "" } else { " BEYOND" };
        [
            name.to_owned(),
            text(self.value),
            self.unit.to_owned(),
            self.baseline.map(text).unwrap_or_default(),
            limit + verdict,
            self.note.clone(),
        ]
    }
}

/// Whole numbers stay whole.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        Value::from(value as i64)
    } else {
        Number::from_f64(value).map_or(Value::Null, Value::Number)
    }
}

/// For people, a few digits do.
fn text(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_the_fields_of_the_contract() {
        let figure = Figure::new(217.0, "insns")
            .baseline(1386.0)
            .at_most(200.0)
            .note("n");
        let expected =
            json!({ "value": 217, "unit": "insns", "baseline": 1386, "limit": 200, "note": "n" });
        assert_eq!(figure.to_json(), expected);
        let bare =
            json!({ "value": 1.25, "unit": "bits", "baseline": null, "limit": null, "note": "" });
        assert_eq!(Figure::new(1.25, "bits").to_json(), bare);
        let timed = Figure::new(2.0, "ms").spread(1.5, 3.0).to_json();
        assert_eq!(timed["spread"], json!([1.5, 3]));
    }

    #[test]
    fn a_limit_is_kept_up_to_the_limit_itself() {
        let at = |value| Figure::new(value, "insns");
        assert!(at(200.0).at_most(200.0).is_good() && !at(200.1).at_most(200.0).is_good());
        assert!(at(90.0).at_least(90.0).is_good() && !at(89.9).at_least(90.0).is_good());
        assert!(at(1e9).is_good());
        assert_eq!(at(201.0).at_most(200.0).row("x")[4], "<= 200 BEYOND");
    }
}
