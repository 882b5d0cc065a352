//! What is promised, by whom.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::figure::Unit;

/// What keeps a target, in its quantity's unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// No more than this.
    Most(f64),
    /// No less than this.
    Least(f64),
}

/// One promise.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Target {
    /// What keeps it.
    #[serde(flatten)]
    pub bound: Bound,
    /// Who promises it, in which words.
    pub source: String,
}

/// Something that is measured.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantity {
    /// What it is called.
    pub id: String,
    /// What is measured.
    pub what: String,
    /// The benchmark that measures it: `cargo bench --bench NAME`.
    pub bench: String,
    /// What it is counted in.
    pub unit: Unit,
    /// What is promised of it: promises that contradict each other stand side by side.
    pub targets: Vec<Target>,
    /// Why a target of it is missed, where one is.
    #[serde(default)]
    pub because: Option<String>,
}

/// A promise about cost that says nothing of Stockade.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elsewhere {
    /// What is promised.
    pub what: String,
    /// By whom.
    pub source: String,
    /// Why it is not measured.
    pub because: String,
}

/// Every quantity with its targets.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Targets {
    /// What is measured, in the order in which it is shown.
    pub quantities: Vec<Quantity>,
    /// What is promised and not measured.
    pub elsewhere: Vec<Elsewhere>,
}

impl Targets {
    /// The targets in `benches/targets.yaml`.
    ///
    /// # Errors
    /// Where the file is not what it should be: in words.
    pub fn published() -> Result<Self, String> {
        Self::parse(include_str!("../../../benches/targets.yaml"))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let targets: Self = serde_yaml::from_str(text).map_err(|error| format!("targets.yaml: {error}"))?;
        let mut seen = BTreeSet::new();
        let mut names = targets.quantities.iter().map(|quantity| &quantity.id);
        match names.find(|id| !seen.insert(*id)) {
            Some(id) => Err(format!("targets.yaml: `{id}` is there twice")),
            None => Ok(targets),
        }
    }

    /// What one benchmark measures.
    pub fn of_bench<'a>(&'a self, bench: &'a str) -> impl Iterator<Item = &'a Quantity> {
        self.quantities.iter().filter(move |quantity| quantity.bench == bench)
    }

    /// One quantity.
    #[must_use]
    pub fn quantity(&self, id: &str) -> Option<&Quantity> {
        self.quantities.iter().find(|quantity| quantity.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_targets_are_read_and_every_bench_is_a_program() {
        let targets = Targets::published().unwrap();
        assert!(targets.quantities.iter().any(|quantity| quantity.targets.len() > 1));
        for quantity in &targets.quantities {
            let program = format!(
                "{}/../benches/benches/{}.rs",
                env!("CARGO_MANIFEST_DIR"),
                quantity.bench
            );
            assert!(std::path::Path::new(&program).exists(), "{}: no {program}", quantity.id);
        }
    }

    #[test]
    fn what_is_there_twice_is_refused() {
        let one = "{id: a, what: b, bench: c, unit: ratio, targets: [{most: 1.5, source: d}]}";
        let text = |ids: &[&str]| format!("{{quantities: [{}], elsewhere: []}}", ids.join(", "));
        assert!(Targets::parse(&text(&[one])).is_ok());
        assert!(
            Targets::parse(&text(&[one, one]))
                .unwrap_err()
                .contains("`a` is there twice")
        );
        let unbounded = one.replace("most", "mots");
        assert!(Targets::parse(&text(&[&unbounded])).is_err());
    }
}
