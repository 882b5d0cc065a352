//! What `check` says about a policy set.

use serde::Serialize;

use crate::finding::{Allowed, Finding, Severity};
use crate::lint::{Allowances, Reviewed, advise};
use crate::load::{Loaded, load, sort};
use crate::plan::{Bound, Plan};
use crate::store::{Source, Stock};
use crate::vocabulary::{Action, Meter, Unit};

/// Everything worth saying about a policy set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What is wrong, errors first.
    pub findings: Vec<Finding>,
    /// What would be a finding, had its policy not allowed it and said why.
    pub allowed: Vec<Allowed>,
    /// What each profile may do. Empty where the policies could not be read.
    pub profiles: Vec<ProfileReport>,
}

impl Report {
    /// How many findings are this bad.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    }
}

/// What one profile may do. What it may not is left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProfileReport {
    /// The profile.
    pub name: String,
    /// Its meters that allow more than nothing.
    pub bounds: Vec<BoundReport>,
    /// The actions that are granted, always or sometimes.
    pub capabilities: Vec<CapabilityReport>,
    /// The same for the actions of the user's own schema.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<OwnReport>,
}

/// One meter's bound.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BoundReport {
    /// The meter.
    pub meter: Meter,
    /// What it counts in.
    pub unit: Unit,
    /// The most that is allowed.
    pub bound: Bound,
    /// The policies that set it.
    pub policies: Vec<String>,
}

/// Whether a grant depends on anything known only at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// Every such question is allowed.
    Always,
    /// It depends on the resource or the context.
    Sometimes,
}

impl Grant {
    fn of(bit: Option<bool>) -> Option<Self> {
        match bit {
            Some(false) => None,
            Some(true) => Some(Self::Always),
            None => Some(Self::Sometimes),
        }
    }
}

/// One action that is granted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CapabilityReport {
    /// The action.
    pub action: Action,
    /// Always or sometimes.
    pub grant: Grant,
    /// The policies that take part.
    pub policies: Vec<String>,
}

/// One action of the user's own schema that is granted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OwnReport {
    /// Its uid: `Shop::Action::"sendMail"`.
    pub action: String,
    /// Always or sometimes.
    pub grant: Grant,
    /// The policies that take part.
    pub policies: Vec<String>,
}

/// Checks a policy set and says what it allows.
///
/// Beside what loading finds, this says what is hardly what was meant. Where there are errors it says no more than those:
/// what a set comes to is only known when they are mended.
#[must_use]
pub fn check(sources: &[Source], stock: Stock) -> Report {
    let mut loaded = load(sources, stock);
    advice(&mut loaded, sources);
    let profiles = loaded.plans.iter().map(|(name, plan)| report_of(name, plan)).collect();
    Report {
        findings: loaded.findings,
        allowed: loaded.allowed,
        profiles,
    }
}

fn advice(loaded: &mut Loaded, sources: &[Source]) {
    if loaded.is_refused() {
        return;
    }
    let (Some(ready), Some(vocabulary)) = (&loaded.ready, &loaded.vocabulary) else {
        return;
    };
    let advice = advise(&Reviewed {
        ready,
        plans: &loaded.plans,
        sources,
        vocabulary,
    });
    let allowances = Allowances::of(&ready.policies);
    let (advice, allowed) = allowances.apply(advice);
    loaded.allowed.extend(allowed);
    loaded.findings.extend(advice);
    loaded.findings.extend(allowances.complaints(&loaded.allowed));
    sort(&mut loaded.findings, sources);
}

fn report_of(name: &str, plan: &Plan) -> ProfileReport {
    let bounds = Meter::ALL.iter().map(|meter| BoundReport {
        meter: *meter,
        unit: meter.unit(),
        bound: plan.bound(*meter),
        policies: plan.binding(*meter).to_vec(),
    });
    let capabilities = Action::all().filter_map(|action| {
        Some(CapabilityReport {
            action,
            grant: Grant::of(plan.bit(action))?,
            policies: plan.taking_part(action),
        })
    });
    let own = plan.own_actions().filter_map(|(action, bit)| {
        Some(OwnReport {
            action: action.to_owned(),
            grant: Grant::of(bit)?,
            policies: plan.taking_part_own(action),
        })
    });
    ProfileReport {
        name: name.to_owned(),
        bounds: bounds.filter(|report| report.bound != Bound::Limited(0)).collect(),
        capabilities: capabilities.collect(),
        own: own.collect(),
    }
}
