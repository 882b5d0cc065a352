//! What policies cost: a bit, a bound, a question, a plan, a check; and the same questions put to other engines.
//!
//! Everything is timed in turns within one run (`stockade_benches::pairs`); `targets.yaml` says what is promised.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::hint::black_box;

use cedar_policy::{PolicySet, Schema, ValidationMode, Validator};
use stockade_benches::pairs::{Pairs, Timed};
use stockade_benches::rivals::{Casbin, Cedar, Rego, round};
use stockade_benches::synthetic::{self, Wish, wishes};
use stockade_benches::targets::Targets;
use stockade_policies::{
    Action, Meter, Plan, PolicyStore, Principal, Question, Resource, Source, SourceKind, SqlAction, Stock, check,
};

const SCHEMA: &str = include_str!("../../policies/schema.cedarschema");

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo test` runs every benchmark to see that it works; `cargo bench` measures.
    let once = !std::env::args().any(|argument| argument == "--bench");
    let mut targets = Targets::read("policies")?;
    known_answers(once, &mut targets)?;
    for rules in [20, 200] {
        engines(rules, once, &mut targets)?;
    }
    compiling(once, &mut targets)?;
    if once {
        return Ok(());
    }
    print!("{targets}");
    Ok(())
}

/// Figures of a run that was no measurement would only mislead.
fn show(timed: &Timed, once: bool) {
    if !once {
        print!("{timed}");
    }
}

fn sources(policies: String) -> [Source; 2] {
    let source = |name: &str, text, kind| Source {
        name: name.to_owned(),
        text,
        kind,
    };
    [
        source("synthetic.cedar", policies, SourceKind::Policies),
        source("synthetic.entities.json", synthetic::entities(), SourceKind::Entities),
    ]
}

fn store(policies: String) -> Result<PolicyStore, Box<dyn Error>> {
    Ok(PolicyStore::load(&sources(policies), Stock::Without)?)
}

/// Where no name and no argument matters.
fn known_answers(once: bool, targets: &mut Targets) -> Result<(), Box<dyn Error>> {
    let plan = PolicyStore::stock()?.plan(&Principal::caller("guest", "database-only"))?;
    let timed = Pairs::of("a question whose answer is known when policies are loaded")
        .way("an empty loop", || {
            black_box(&plan);
            black_box(4096_u64);
        })
        .way("a bound", || {
            black_box(
                black_box(&plan)
                    .bound(black_box(Meter::GrowHeap))
                    .permits(black_box(4096)),
            );
        })
        .way("a bit", || {
            black_box(black_box(&plan).bit(black_box(Action::Sql(SqlAction::Detach))));
        })
        .timed(once);
    show(&timed, once);
    let over = |name: &str| Some(timed.nanos(name)? - timed.nanos("an empty loop")?);
    targets.measured("bound", over("a bound"));
    targets.measured("bit", over("a bit"));
    Ok(())
}

fn asked(plan: &Plan, table: &str, column: &str) -> bool {
    let resource = Resource::column("main", table, column);
    let question = Question {
        action: Action::Sql(SqlAction::Read),
        resource: &resource,
        context: &[],
    };
    plan.decide(&question).allowed
}

/// The same rules in four engines. They must agree before any of them is timed.
fn engines(rules: usize, once: bool, targets: &mut Targets) -> Result<(), Box<dyn Error>> {
    let text = synthetic::cedar_readings(rules);
    let store = store(text.clone())?;
    let plans = (0..synthetic::PROFILES)
        .map(|profile| store.plan(&Principal::caller("guest", &format!("p{profile}"))))
        .collect::<Result<Vec<_>, _>>()?;
    let plan_of = |wish: &Wish| plans.get(wish.profile).ok_or("a wish of nobody");
    let (cedar, rego, casbin) = (Cedar::new(&text)?, RefCell::new(Rego::new(rules)?), Casbin::new(rules)?);
    let asked_of_all: Vec<Wish> = wishes(round()).collect();
    let (mut allowed, mut denied) = (0, 0);
    for wish in &asked_of_all {
        let answers = [
            asked(plan_of(wish)?, &wish.table, &wish.column),
            cedar.allows(&Cedar::wish(wish)?),
            rego.borrow_mut().allows(&Rego::wish(wish)?),
            casbin.allows(&Casbin::wish(wish)),
        ];
        match answers {
            [true, true, true, true] => allowed += 1,
            [false, false, false, false] => denied += 1,
            _ => return Err(format!("plan, Cedar, Rego and casbin answer {answers:?} to {wish:?}").into()),
        }
    }
    if allowed < 3 || denied < 3 {
        return Err(format!("{allowed} questions are allowed and {denied} denied: too few of one kind").into());
    }
    let prepared = |index: usize| asked_of_all.get(index % asked_of_all.len());
    let cedar_wishes = asked_of_all.iter().map(Cedar::wish).collect::<Result<Vec<_>, _>>()?;
    let rego_wishes = asked_of_all.iter().map(Rego::wish).collect::<Result<Vec<_>, _>>()?;
    let casbin_wishes: Vec<_> = asked_of_all.iter().map(Casbin::wish).collect();
    let turn = Cell::new(0_usize);
    let next = || turn.replace(turn.get() + 1);
    let timed = Pairs::of(if rules == 20 {
        "a question about a column, 20 rules"
    } else {
        "a question about a column, 200 rules"
    })
    .way("Cedar, request made before", || {
        let wish = cedar_wishes.get(next() % cedar_wishes.len());
        black_box(wish.map(|wish| cedar.allows(wish)));
    })
    .way("a plan, question never asked before", || {
        let index = next();
        if let Some(wish) = prepared(index)
            && let Ok(plan) = plan_of(wish)
        {
            black_box(asked(plan, &wish.table, &format!("c{index}")));
        }
    })
    .way("a plan, question asked before", || {
        if let Some(wish) = prepared(next())
            && let Ok(plan) = plan_of(wish)
        {
            black_box(asked(plan, &wish.table, &wish.column));
        }
    })
    .way("Rego (regorus)", || {
        let wish = rego_wishes.get(next() % rego_wishes.len());
        black_box(wish.map(|wish| rego.borrow_mut().allows(wish)));
    })
    .way("an access model (casbin)", || {
        let wish = casbin_wishes.get(next() % casbin_wishes.len());
        black_box(wish.map(|wish| casbin.allows(wish)));
    })
    .timed(once);
    show(&timed, once);
    if rules == 200 {
        targets.measured("residual", timed.ratio("a plan, question never asked before"));
    }
    Ok(())
}

/// From text to plans.
fn compiling(once: bool, targets: &mut Targets) -> Result<(), Box<dyn Error>> {
    let text = synthetic::cedar(200);
    let loaded = store(text.clone())?;
    let turn = Cell::new(0_usize);
    let timed = Pairs::of("a plan from 200 policies")
        .way("a module never seen before", || {
            let sha256 = format!("{:064x}", turn.replace(turn.get() + 1));
            black_box(loaded.plan(&Principal::module(&sha256, "p3")).is_ok());
        })
        .timed(once);
    show(&timed, once);
    targets.measured(
        "plan",
        timed.nanos("a module never seen before").map(|nanos| nanos / 1e6),
    );

    let validator = Validator::new(Schema::from_cedarschema_str(SCHEMA)?.0);
    let sources = sources(text.clone());
    let report = check(&sources, Stock::Without);
    if report.profiles.len() != synthetic::PROFILES {
        return Err(format!("the synthetic policies do not load: {:?}", report.findings.first()).into());
    }
    let timed = Pairs::of("200 policies from their text")
        .way("Cedar: parse and strictly validate", || {
            let set: Result<PolicySet, _> = text.parse();
            black_box(set.is_ok_and(|set| validator.validate(&set, ValidationMode::Strict).validation_passed()));
        })
        .way("check", || {
            black_box(check(&sources, Stock::Without).findings.len());
        })
        .timed(once);
    show(&timed, once);
    targets.measured("check", timed.ratio("check"));
    Ok(())
}
