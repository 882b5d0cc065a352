//! `policyctl explain`

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use stockade_conformance::{Case, Corpus, Laboratory, Reference, Stage, Subject};
use stockade_policies::{
    Action, Bound, Location, Meter, Plan, PolicyStore, Principal, Question, Resource, Value, describe,
};
use stockade_runtime::{Class, Event, Layer, Outcome};

use crate::arguments::{Format, Policies};
use crate::exit::{Exit, Failure};
use crate::guest_text::one_line;
use crate::sources;

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// A case of the corpus
    #[arg(value_name = "CASE", required_unless_present = "action", conflicts_with_all = ["action", "resource", "context"])]
    pub case: Option<String>,
    /// The profile that asks
    #[arg(long, default_value = "untrusted")]
    pub profile: String,
    /// What it asks for: an action of the vocabulary
    #[arg(long)]
    pub action: Option<String>,
    /// On what, as policies write it: `Table::"main.notes"`
    #[arg(long)]
    pub resource: Option<String>,
    /// What else is known: a JSON object
    #[arg(long, value_name = "JSON")]
    pub context: Option<String>,
    #[command(flatten)]
    pub policies: Policies,
    /// How to answer
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

/// Says which policy decides, where it stands, and which layer enforces it.
pub(crate) fn explain(arguments: &Explain) -> Result<Exit, Failure> {
    let explanation = match (&arguments.case, &arguments.action) {
        (Some(case), _) => of_case(case)?,
        (None, Some(action)) => of_request(arguments, action)?,
        (None, None) => return Err(Failure::new("name a case or an `--action`")),
    };
    match arguments.format {
        Format::Json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&explanation)?)?,
        Format::Human => write!(io::stdout(), "{explanation}")?,
    }
    Ok(Exit::Clean)
}

/// What there is to say.
#[derive(Debug, Serialize)]
struct Explanation {
    /// One sentence.
    answer: String,
    /// For a case: why it matters.
    why: Option<String>,
    /// What became of a case's guest.
    outcome: Option<Class>,
    /// The layer that stopped it.
    stopped_by: Option<Layer>,
    /// What was decided.
    decisions: Vec<Decided>,
}

/// One decision or bound.
#[derive(Debug, Serialize)]
struct Decided {
    what: String,
    answer: String,
    policies: Vec<Placed>,
    /// The layers that enforce it.
    layers: Vec<String>,
}

/// A policy and where it stands.
#[derive(Debug, Serialize)]
struct Placed {
    id: String,
    location: Option<Location>,
}

impl std::fmt::Display for Explanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", one_line(&self.answer))?;
        if let Some(why) = &self.why {
            writeln!(f, "  {}", one_line(why))?;
        }
        for decided in &self.decisions {
            if self.outcome.is_some() {
                writeln!(f, "{}: {}", one_line(&decided.what), decided.answer)?;
            }
            for policy in &decided.policies {
                let place = policy.location.as_ref().map_or(String::new(), |at| format!(" at {at}"));
                writeln!(f, "  by `{}`{place}", one_line(&policy.id))?;
            }
            if decided.policies.is_empty() {
                writeln!(f, "  no policy permits it")?;
            }
            writeln!(f, "  enforced by {}", decided.layers.join(", "))?;
        }
        Ok(())
    }
}

fn of_request(arguments: &Explain, action: &str) -> Result<Explanation, Failure> {
    let store = sources::load(&arguments.policies)?;
    let plan = store.plan(&Principal::profile(&arguments.profile))?;
    if let Some(meter) = Meter::from_action(action) {
        let decided = bound(&store, &plan, meter);
        let answer = format!("`{action}` for members of `{}`: {}", arguments.profile, decided.answer);
        return Ok(alone(answer, decided));
    }
    let Some(known) = Action::from_id(action) else {
        return Err(unknown(action));
    };
    let resource: Resource = match &arguments.resource {
        Some(text) => text.parse().map_err(Failure::new)?,
        None => {
            let kind = known.resource().name();
            return Err(Failure::new(format!(
                "`{action}` is done to something: add `--resource '{kind}::\"…\"'`"
            )));
        }
    };
    let context = context(known, arguments.context.as_deref(), &resource)?;
    let decision = plan.decide(&Question {
        action: known,
        resource: &resource,
        context: &context,
    });
    let decided = Decided {
        what: format!("{action} on {resource}"),
        answer: if decision.allowed { "allowed" } else { "denied" }.to_owned(),
        policies: placed(&store, &decision.policies),
        layers: layers(action),
    };
    let answer = format!(
        "`{action}` on {resource} for members of `{}`: {}",
        arguments.profile, decided.answer
    );
    Ok(alone(answer, decided))
}

fn alone(answer: String, decided: Decided) -> Explanation {
    Explanation {
        answer,
        why: describe(decided.what.split(' ').next().unwrap_or_default()).map(|described| described.doc),
        outcome: None,
        stopped_by: None,
        decisions: vec![decided],
    }
}

fn unknown(action: &str) -> Failure {
    match describe(action).and_then(|described| described.reserved) {
        Some(reason) => Failure::new(format!("`{action}` is reserved: {reason}")),
        None => Failure::new(format!("there is no action `{action}` in the vocabulary")),
    }
}

/// The attributes from the command line; those that follow from the resource are filled in.
fn context(action: Action, json: Option<&str>, resource: &Resource) -> Result<Vec<(&'static str, Value)>, Failure> {
    let given: serde_json::Map<String, serde_json::Value> = match json {
        Some(text) => serde_json::from_str(text).map_err(|error| Failure::new(format!("`--context`: {error}")))?,
        None => serde_json::Map::new(),
    };
    let known: Vec<&str> = action.context().iter().map(|attribute| attribute.name).collect();
    if let Some(name) = given.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(Failure::new(format!(
            "`{}` has no `{name}` in its context, only {}",
            action.id(),
            known.join(", ")
        )));
    }
    let mut context = Vec::new();
    for attribute in action.context() {
        let value = match given.get(attribute.name) {
            Some(serde_json::Value::String(text)) => Some(Value::Text(text.clone())),
            Some(serde_json::Value::Number(number)) => number.as_i64().map(Value::Long),
            Some(other) => return Err(Failure::new(format!("`{}` cannot be `{other}`", attribute.name))),
            None if attribute.required => Some(Value::Text(implied(attribute.name, resource))),
            None => None,
        };
        context.extend(value.map(|value| (attribute.name, value)));
    }
    Ok(context)
}

fn implied(attribute: &str, resource: &Resource) -> String {
    match (attribute, resource) {
        ("file", Resource::Path(path)) => path.clone(),
        _ => String::new(),
    }
}

fn of_case(id: &str) -> Result<Explanation, Failure> {
    let corpus = Corpus::select(&[id.to_owned()])?;
    let [case] = corpus.cases() else {
        return Err(Failure::new(format!(
            "`{id}` names {} cases; name one",
            corpus.cases().len()
        )));
    };
    let laboratory = Laboratory::new(1)?;
    let stage = Stage::set(case, &corpus).map_err(Failure::new)?;
    let observed = Reference::new(&laboratory).run(case, &stage)?;
    let outcome = observed
        .outcome()
        .ok_or_else(|| Failure::new("the runtime came to no outcome"))?;
    let runtime = laboratory.runtime(case)?;
    let plan = runtime.plan(&stage.request(case))?;
    Ok(explained(case, outcome, runtime.policies(), &plan))
}

fn explained(case: &Case, outcome: &Outcome, store: &PolicyStore, plan: &Plan) -> Explanation {
    let mut decisions: Vec<Decided> = outcome
        .trail
        .events()
        .iter()
        .filter_map(|event| denial(event, store))
        .collect();
    if let Some(layer) = outcome.layer.filter(|_| decisions.is_empty()) {
        // Of several meters of one class, those that the layer which fired enforces.
        let is_its = |decided: &Decided| decided.layers.iter().any(|name| name == layer.name());
        let meters = outcome
            .class
            .meters()
            .iter()
            .filter(|meter| plan.bound(**meter) != Bound::Limited(0));
        decisions = meters.map(|meter| bound(store, plan, *meter)).filter(is_its).collect();
    }
    let by = outcome
        .layer
        .map_or(String::new(), |layer| format!(", stopped by layer `{layer}`"));
    let detail = if outcome.detail.is_empty() {
        String::new()
    } else {
        format!(" ({})", outcome.detail)
    };
    Explanation {
        answer: format!("{}: {}{by}{detail}", case.id, outcome.class),
        why: Some(case.why.clone()),
        outcome: Some(outcome.class),
        stopped_by: outcome.layer,
        decisions,
    }
}

fn denial(event: &Event, store: &PolicyStore) -> Option<Decided> {
    match event {
        Event::Decided {
            action,
            resource,
            allowed: false,
            policies,
        } => Some(Decided {
            what: format!("{action} on {resource}"),
            answer: "denied".to_owned(),
            policies: placed(store, policies),
            layers: layers(action),
        }),
        _ => None,
    }
}

fn bound(store: &PolicyStore, plan: &Plan, meter: Meter) -> Decided {
    let most = plan.bound(meter);
    let answer = match most {
        Bound::Limited(0) => "nothing".to_owned(),
        Bound::Limited(_) => format!("at most {}", most.shown(meter.unit())),
        Bound::Unbounded => "unbounded".to_owned(),
    };
    Decided {
        what: meter.action().to_owned(),
        answer,
        policies: placed(store, plan.binding(meter)),
        layers: layers(meter.action()),
    }
}

fn layers(action: &str) -> Vec<String> {
    describe(action).map(|described| described.layers).unwrap_or_default()
}

fn placed(store: &PolicyStore, ids: &[String]) -> Vec<Placed> {
    ids.iter()
        .map(|id| Placed {
            id: id.clone(),
            location: store.locate(id).cloned(),
        })
        .collect()
}
