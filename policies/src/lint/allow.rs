//! Findings that a policy allows, each with its reason: `@allow("unscoped-permit: every guest may log")`.

use super::place_of;
use crate::finding::{Allowed, Code, Finding, Location, Severity};
use crate::parse::LoadedPolicy;

/// What the policies of a set allow.
#[derive(Debug, Default)]
pub(crate) struct Allowances {
    allowances: Vec<Allowance>,
    bad: Vec<Finding>,
}

/// One code, allowed within one policy.
#[derive(Debug)]
struct Allowance {
    code: Code,
    reason: String,
    /// All of the policy.
    within: Location,
    /// The annotation.
    written: Location,
}

impl Allowances {
    /// Reads every `@allow`.
    pub(crate) fn of(policies: &[LoadedPolicy]) -> Self {
        let mut all = Self::default();
        for policy in policies {
            let Some(text) = policy.policy.annotation("allow") else {
                continue;
            };
            for entry in entries(text) {
                match allowance(policy, &entry) {
                    Ok(allowance) => all.allowances.push(allowance),
                    Err(finding) => all.bad.push(finding),
                }
            }
        }
        all
    }

    /// Sets aside what is allowed.
    pub(crate) fn apply(&self, findings: Vec<Finding>) -> (Vec<Finding>, Vec<Allowed>) {
        let mut kept = Vec::new();
        let mut allowed = Vec::new();
        for finding in findings {
            match self.allowances.iter().find(|allowance| allowance.covers(&finding)) {
                Some(allowance) => allowed.push(Allowed {
                    finding,
                    reason: allowance.reason.clone(),
                }),
                None => kept.push(finding),
            }
        }
        (kept, allowed)
    }

    /// What cannot be an allowance, and what allows nothing that was found.
    pub(crate) fn complaints(&self, allowed: &[Allowed]) -> Vec<Finding> {
        let mut complaints = self.bad.clone();
        for (index, allowance) in self.allowances.iter().enumerate() {
            let is_first = !self
                .allowances
                .iter()
                .take(index)
                .any(|earlier| earlier.is_same(allowance));
            let is_used = allowed.iter().any(|allowed| allowance.covers(&allowed.finding));
            if !(is_first && is_used) {
                let message = format!("nothing here is a `{}`, so there is nothing to allow", allowance.code);
                complaints.push(
                    Finding::warning(Code::UnusedAllow, message)
                        .with_help("take the allowance out, so that it does not hide the next one")
                        .at(Some(allowance.written.clone())),
                );
            }
        }
        complaints
    }
}

impl Allowance {
    fn covers(&self, finding: &Finding) -> bool {
        let inside = |at: &Location| {
            at.source == self.within.source
                && at.offset >= self.within.offset
                && at.offset < self.within.offset + self.within.length
        };
        finding.code == self.code
            && finding.severity != Severity::Error
            && finding.location.as_ref().is_some_and(inside)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.code == other.code && self.within == other.within
    }
}

/// What stands between the semicolons. One that no code stands behind belongs to the reason.
fn entries(text: &str) -> Vec<String> {
    let starts = |part: &str| {
        let name = part.split(':').next().unwrap_or_default().trim();
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        is_name && (part.contains(':') || name.parse::<Code>().is_ok())
    };
    let mut entries: Vec<String> = Vec::new();
    for part in text.split(';') {
        match entries.last_mut() {
            Some(last) if !starts(part) => {
                last.push(';');
                last.push_str(part);
            }
            _ => entries.push(part.to_owned()),
        }
    }
    entries.iter().map(|entry| entry.trim().to_owned()).collect()
}

fn allowance(policy: &LoadedPolicy, entry: &str) -> Result<Allowance, Finding> {
    let bad = |message: String, help: String| {
        Finding::warning(Code::BadAllow, message)
            .with_help(help)
            .at(Some(place_of(policy, "@allow")))
    };
    let (name, reason) = entry.split_once(':').unwrap_or((entry, ""));
    let (name, reason) = (name.trim(), reason.trim());
    let code: Code = match name.parse() {
        Ok(code) => code,
        Err(error) => return Err(bad(format!("`{name}` is not a code"), error.to_string())),
    };
    if code.severity() == Severity::Error {
        let help = "an error keeps the policies from loading, so it has to be mended".to_owned();
        return Err(bad(format!("`{name}` cannot be allowed"), help));
    }
    if matches!(code, Code::BadAllow | Code::UnusedAllow) {
        let help = "take the allowance out that it is about".to_owned();
        return Err(bad(format!("`{name}` cannot be allowed"), help));
    }
    if reason.is_empty() {
        let help = format!("say why: `@allow(\"{name}: …\")`; several are separated by `;`");
        return Err(bad(format!("`{name}` is allowed without a reason"), help));
    }
    Ok(Allowance {
        code,
        reason: reason.to_owned(),
        within: Location {
            // A linked policy's text is longer than its template, whose first line is where it is reported.
            length: if policy.link.is_some() {
                policy.location.length
            } else {
                policy.text.len()
            },
            ..policy.location.clone()
        },
        written: place_of(policy, "@allow"),
    })
}
