//! What policies cost: a bit, a bound, a question, a plan, a check; and the same questions put to other engines.
//!
//! Everything is timed in turns (`stockade_benches::pairs`), in several processes (`stockade_benches::processes`);
//! `targets.yaml` says what is promised.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::hint::black_box;

use cedar_policy::{PolicySet, Schema, ValidationMode, Validator};
use stockade_benches::pairs::Pairs;
use stockade_benches::processes::in_several;
use stockade_benches::record::Record;
use stockade_benches::rivals::{Casbin, Cedar, Rego, round};
use stockade_benches::synthetic::{self, Wish, wishes};
use stockade_policies::{
    Action, Meter, Plan, PolicyStore, Principal, Question, Resource, Source, SourceKind, SqlAction, Stock, check,
};

const SCHEMA: &str = include_str!("../../policies/schema.cedarschema");

fn main() -> Result<(), Box<dyn Error>> {
    in_several("policies", measure)
}

fn measure(record: &mut Record) -> Result<(), Box<dyn Error>> {
    known_answers(record)?;
    for rules in if record.is_once() { &[20, 200][..] } else { &RULES } {
        engines(*rules, record)?;
    }
    compiling(record)?;
    for policies in if record.is_once() { &[8][..] } else { &POLICIES } {
        growing(*policies, record)?;
    }
    Ok(())
}

/// How many rules about reading other engines are asked with. More policies than 4096 are not read.
const RULES: [usize; 4] = [20, 200, 1000, 4000];
/// How many policies are compiled.
const POLICIES: [usize; 4] = [8, 40, 200, 1000];

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
fn known_answers(record: &mut Record) -> Result<(), Box<dyn Error>> {
    let plan = PolicyStore::stock()?.plan(&Principal::caller("guest", "database-only"))?;
    let timed = Pairs::of("a question whose answer is known when policies are loaded")
        .way("an empty loop", || {
            black_box(&plan);
            black_box(4096_u64);
            true
        })
        .way("a bound", || {
            black_box(
                black_box(&plan)
                    .bound(black_box(Meter::GrowHeap))
                    .permits(black_box(4096)),
            );
            true
        })
        .way("a bit", || {
            black_box(black_box(&plan).bit(black_box(Action::Sql(SqlAction::Detach)))).is_some()
        })
        .timed(record.effort())?;
    record.timed(&timed);
    record.figure("bound", timed.over("a bound"));
    record.figure("bit", timed.over("a bit"));
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
fn engines(rules: usize, record: &mut Record) -> Result<(), Box<dyn Error>> {
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
    if rules >= 20 && (allowed < 3 || denied < 3) {
        return Err(format!("{allowed} questions are allowed and {denied} denied: too few of one kind").into());
    }
    let prepared = |index: usize| asked_of_all.get(index % asked_of_all.len());
    let cedar_wishes = asked_of_all.iter().map(Cedar::wish).collect::<Result<Vec<_>, _>>()?;
    let rego_wishes = asked_of_all.iter().map(Rego::wish).collect::<Result<Vec<_>, _>>()?;
    let casbin_wishes: Vec<_> = asked_of_all.iter().map(Casbin::wish).collect();
    let turn = Cell::new(0_usize);
    let next = || turn.replace(turn.get() + 1);
    let timed = Pairs::of("a question about a column")
        .sized(rules as u64, "rules")
        .way("Cedar, request made before", || {
            let wish = cedar_wishes.get(next() % cedar_wishes.len());
            black_box(wish.map(|wish| cedar.allows(wish))).is_some()
        })
        .way("a plan, question never asked before", || {
            let index = next();
            let wish = prepared(index);
            let plan = wish.and_then(|wish| Some((wish, plan_of(wish).ok()?)));
            black_box(plan.map(|(wish, plan)| asked(plan, &wish.table, &format!("c{index}")))).is_some()
        })
        .way("a plan, question asked before", || {
            let wish = prepared(next());
            let plan = wish.and_then(|wish| Some((wish, plan_of(wish).ok()?)));
            black_box(plan.map(|(wish, plan)| asked(plan, &wish.table, &wish.column))).is_some()
        })
        .way("Rego (regorus)", || {
            let wish = rego_wishes.get(next() % rego_wishes.len());
            black_box(wish.map(|wish| rego.borrow_mut().allows(wish))).is_some()
        })
        .way("an access model (casbin)", || {
            let wish = casbin_wishes.get(next() % casbin_wishes.len());
            black_box(wish.map(|wish| casbin.allows(wish))).is_some()
        })
        .timed(record.effort())?;
    record.timed(&timed);
    if rules == 200 {
        record.figure("residual", timed.ratio("a plan, question never asked before"));
        record.figure("asked-again", timed.nanos("a plan, question asked before"));
    }
    Ok(())
}

/// From text to plans.
fn compiling(record: &mut Record) -> Result<(), Box<dyn Error>> {
    let text = synthetic::cedar(200);
    let loaded = store(text.clone())?;
    let turn = Cell::new(0_usize);
    let timed = Pairs::of("a plan from 200 policies")
        .way("a module that an entity names", || {
            loaded.plan(&Principal::module(synthetic::MODULE, "p3")).is_ok()
        })
        .way("a module never seen before", || {
            let sha256 = format!("{:064x}", turn.replace(turn.get() + 1));
            loaded.plan(&Principal::module(&sha256, "p3")).is_ok()
        })
        .timed(record.effort())?;
    record.timed(&timed);
    record.figure("plan", timed.nanos("a module never seen before"));
    record.figure("plan-named", timed.nanos("a module that an entity names"));

    let validator = Validator::new(Schema::from_cedarschema_str(SCHEMA)?.0);
    let sources = sources(text.clone());
    let report = check(&sources, Stock::Without);
    if report.profiles.len() != synthetic::PROFILES {
        return Err(format!("the synthetic policies do not load: {:?}", report.findings.first()).into());
    }
    let timed = Pairs::of("200 policies from their text")
        .way_of_all_threads("Cedar: parse and strictly validate", || {
            let set: Result<PolicySet, _> = text.parse();
            set.is_ok_and(|set| validator.validate(&set, ValidationMode::Strict).validation_passed())
        })
        .way_of_all_threads("check", || {
            check(&sources, Stock::Without).profiles.len() == synthetic::PROFILES
        })
        .timed(record.effort())?;
    record.timed(&timed);
    record.figure("check", timed.ratio("check"));
    Ok(())
}

/// What a host spends on policies once, and on a module that is new to it, as policies become more.
fn growing(policies: usize, record: &mut Record) -> Result<(), Box<dyn Error>> {
    let text = synthetic::cedar(policies);
    let loaded = store(text.clone())?;
    let turn = Cell::new(0_usize);
    let timed = Pairs::of("policies from their text, and a plan from policies")
        .sized(policies as u64, "policies")
        .way_of_all_threads("Cedar: parse", || {
            let set: Result<PolicySet, _> = text.parse();
            set.is_ok()
        })
        .way_of_all_threads("a policy store, read and compiled", || store(text.clone()).is_ok())
        .way_of_all_threads("the plan of a module never seen before", || {
            let sha256 = format!("{:064x}", turn.replace(turn.get() + 1));
            loaded.plan(&Principal::module(&sha256, "p3")).is_ok()
        })
        .timed(record.effort())?;
    record.timed(&timed);
    Ok(())
}
