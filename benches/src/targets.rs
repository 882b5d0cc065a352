//! What is promised, beside what was measured.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use serde::Deserialize;

/// One promise.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// What it is called.
    pub id: String,
    /// What is measured.
    pub what: String,
    /// The most that keeps the promise.
    pub most: f64,
    /// What `most` is counted in.
    pub unit: String,
    /// Who promises it.
    pub source: String,
}

/// The promises of one benchmark.
#[derive(Debug)]
pub struct Targets {
    targets: Vec<Target>,
    measured: BTreeMap<String, f64>,
}

impl Targets {
    /// The targets in `targets.yaml` under this heading.
    ///
    /// # Errors
    ///
    /// When the file is not what it should be, or has no such heading.
    pub fn read(heading: &str) -> Result<Self, Box<dyn Error>> {
        let mut all: BTreeMap<String, Vec<Target>> = serde_yaml::from_str(include_str!("../targets.yaml"))?;
        let targets = all
            .remove(heading)
            .ok_or_else(|| format!("there are no targets for `{heading}`"))?;
        Ok(Self {
            targets,
            measured: BTreeMap::new(),
        })
    }

    /// Writes down a figure, if there is one.
    pub fn measured(&mut self, id: &str, figure: Option<f64>) {
        self.measured.extend(figure.map(|figure| (id.to_owned(), figure)));
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "targets")?;
        for target in &self.targets {
            let (figure, verdict) = match self.measured.get(&target.id) {
                Some(figure) if *figure <= target.most => (format!("{figure:.3}"), "met"),
                Some(figure) => (format!("{figure:.3}"), "MISSED"),
                None => ("-".to_owned(), "NOT MEASURED"),
            };
            writeln!(
                f,
                "  {:<10} {figure:>10} of at most {:<5} {:<12} {verdict}: {}",
                target.id, target.most, target.unit, target.what
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_is_said_to_be_missed_and_a_forgotten_one_too() {
        let mut targets = Targets::read("policies").unwrap();
        targets.measured("bound", Some(0.5));
        targets.measured("bit", Some(1.5));
        let text = targets.to_string();
        let line = |id: &str| text.lines().find(|line| line.trim_start().starts_with(id)).unwrap();
        assert!(line("bound ").contains(" met: "));
        assert!(line("bit ").contains(" MISSED: "));
        assert!(line("plan ").contains(" NOT MEASURED: "));
    }

    #[test]
    fn an_unknown_heading_is_an_error() {
        assert!(Targets::read("poetry").is_err());
    }
}
