//! Test files into cases.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::bound_text;
use crate::finding::Location;
use crate::nearest::nearest;
use crate::plan::Bound;
use crate::principal::Principal;
use crate::schema::vocabulary;
use crate::suite::case::{Asked, Case};
use crate::suite::places::{Piece, Text};
use crate::suite::written::{
    Entries, Expect, Several, WrittenAmount, WrittenBound, WrittenBounds, WrittenCells, WrittenFile, WrittenGuest,
    WrittenPrincipal, WrittenRequest, WrittenTable,
};
use crate::vocabulary::{Action, Attribute, Meter, Resource, Value, ValueKind};

/// A file of tests, read or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestFile {
    /// What to call it: its path, or `stock/walkin.tests.yaml`.
    pub name: String,
    /// Its text, YAML.
    pub text: String,
}

/// Why a file is no file of tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct SuiteError {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Where.
    pub location: Location,
}

impl fmt::Display for SuiteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// What one file asks.
#[derive(Debug)]
pub(super) struct ReadFile {
    /// Cedar's JSON.
    pub(super) entities: Vec<serde_json::Value>,
    pub(super) cases: Vec<Case>,
}

/// Reads one file. Everything that is wrong is reported, in the order of the file.
pub(super) fn read(file: &TestFile) -> Result<ReadFile, Vec<SuiteError>> {
    let text = Text {
        name: &file.name,
        text: &file.text,
    };
    let written: WrittenFile = serde_yaml::from_str(&file.text).map_err(|error| vec![not_yaml(text, &error)])?;
    let mut reader = Reader::default();
    for (request, piece) in pieces(&written.requests, text, "requests") {
        reader.request(request, piece);
    }
    for (table, piece) in pieces(&written.tables, text, "tables") {
        reader.table(table, piece);
    }
    for (bounds, piece) in pieces(&written.bounds, text, "bounds") {
        reader.bounds(bounds, piece);
    }
    let Reader { cases, mut errors } = reader;
    if errors.is_empty() {
        return Ok(ReadFile {
            entities: written.entities,
            cases,
        });
    }
    errors.sort_by_key(|error| error.location.offset);
    errors.dedup();
    Err(errors)
}

fn pieces<'a, T>(items: &'a [T], text: Text<'a>, key: &str) -> impl Iterator<Item = (&'a T, Piece<'a>)> {
    items.iter().zip(text.items(key, items.len()))
}

/// The parser's complaint, with the field that was probably meant.
fn not_yaml(text: Text<'_>, error: &serde_yaml::Error) -> SuiteError {
    let line = error.location().map_or(1, |at| at.line());
    let said = error.to_string();
    // The location says the position already.
    let message = match said.rsplit_once(" at line ") {
        Some((before, _)) => before.to_owned(),
        None => said,
    };
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let help = match quoted.as_slice() {
        [typed, known @ ..] if message.contains("unknown field") || message.contains("unknown variant") => {
            nearest(typed, known.iter().copied()).map(|near| format!("did you mean `{near}`?"))
        }
        _ => None,
    };
    SuiteError {
        message,
        help,
        location: text.line(line),
    }
}

/// What is wrong, what to do about it, and the word to point at.
struct Mistake {
    message: String,
    help: Option<String>,
    word: String,
}

impl Mistake {
    fn new(word: &str, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
            word: word.to_owned(),
        }
    }

    fn with_help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }

    /// A name that is none of the known ones.
    fn unknown<'a>(word: &str, message: String, known: impl IntoIterator<Item = &'a str>, else_help: &str) -> Self {
        Self::new(word, message).with_help(match nearest(word, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => else_help.to_owned(),
        })
    }
}

#[derive(Default)]
struct Reader {
    cases: Vec<Case>,
    errors: Vec<SuiteError>,
}

/// What every case of one item has in common.
struct Item<'a> {
    piece: Piece<'a>,
    title: Option<Arc<str>>,
}

impl<'a> Item<'a> {
    fn new(piece: Piece<'a>, name: Option<&str>) -> Self {
        Self {
            piece,
            title: name.map(Arc::from),
        }
    }

    fn case(&self, location: &Arc<Location>, principal: &Arc<Principal>, asked: Asked, by: Option<&By>) -> Case {
        Case {
            title: self.title.clone(),
            location: Arc::clone(location),
            principal: Arc::clone(principal),
            asked,
            by: by.cloned(),
        }
    }
}

type By = Arc<[String]>;

fn by(ids: Option<&Vec<String>>) -> Option<By> {
    ids.map(|ids| {
        let mut ids = ids.clone();
        ids.sort_unstable();
        ids.dedup();
        Arc::from(ids)
    })
}

impl Reader {
    /// Keeps a value, or what is wrong with it.
    fn keep<T>(&mut self, piece: Piece<'_>, found: Result<T, Mistake>) -> Option<T> {
        found
            .map_err(|Mistake { message, help, word }| {
                self.errors.push(SuiteError {
                    message,
                    help,
                    location: piece.find(&word),
                });
            })
            .ok()
    }

    /// Keeps the values, unless something is wrong with one.
    fn keep_all<T, U>(
        &mut self,
        piece: Piece<'_>,
        from: &[T],
        read: impl Fn(&T) -> Result<U, Mistake>,
    ) -> Option<Vec<U>> {
        let kept: Vec<U> = from.iter().filter_map(|one| self.keep(piece, read(one))).collect();
        (kept.len() == from.len()).then_some(kept)
    }

    fn request(&mut self, written: &WrittenRequest, piece: Piece<'_>) {
        let principal = self.keep(piece, principal(&written.principal));
        let asked = self.keep(piece, asked(written));
        if let (Some(principal), Some(asked)) = (principal, asked) {
            let item = Item::new(piece, written.name.as_deref());
            let by = by(written.by.as_ref());
            let case = item.case(&Arc::new(piece.location()), &principal, asked, by.as_ref());
            self.cases.push(case);
        }
    }

    fn bounds(&mut self, written: &WrittenBounds, piece: Piece<'_>) {
        let principals = self.keep_all(piece, written.principals.all(), principal);
        let some = self.keep_all(piece, &written.meters.0, bound_of);
        let only = match &written.only {
            None => Some(None),
            Some(only) => self.keep_all(piece, &only.0, bound_of).map(Some),
        };
        let (Some(principals), Some(mut listed), Some(only)) = (principals, some, only) else {
            return;
        };
        if only.is_some() && !listed.is_empty() {
            let both = Mistake::new("only", "`meters` and `only` stand side by side")
                .with_help("`only` lists every meter that is not 0, so put all of them there");
            self.keep::<()>(piece, Err(both));
            return;
        }
        if let Some(only) = only {
            let given: Vec<Meter> = only.iter().map(|(meter, ..)| *meter).collect();
            let others = Meter::ALL.iter().filter(|meter| !given.contains(meter));
            listed = only;
            listed.extend(others.map(|meter| (*meter, Bound::Limited(0), None)));
        }
        if listed.is_empty() || principals.is_empty() {
            let empty = Mistake::new("", "this asks nothing").with_help("name principals and meters");
            self.keep::<()>(piece, Err(empty));
        }
        let item = Item::new(piece, written.name.as_deref());
        let at: Vec<Arc<Location>> = listed
            .iter()
            .map(|(meter, ..)| Arc::new(item.piece.find(meter.action())))
            .collect();
        for principal in &principals {
            for ((meter, most, by), at) in listed.iter().zip(&at) {
                let asked = Asked::Bound {
                    meter: *meter,
                    most: *most,
                };
                self.cases.push(item.case(at, principal, asked, by.as_ref()));
            }
        }
    }

    fn table(&mut self, written: &WrittenTable, piece: Piece<'_>) {
        let axes = Axes {
            principals: self.keep_all(piece, written.principals.all(), principal),
            actions: self.actions(piece, Some(&written.actions), &[]),
            resources: self.keep_all(piece, written.resources.all(), |text| resource(text)),
        };
        let Some(whole) = axes.whole() else { return };
        let Some(contexts) = self.contexts(piece, &written.context, &whole.actions) else {
            return;
        };
        let allows = written.expect.unwrap_or(Expect::Deny) == Expect::Allow;
        let mut cells = Cells {
            whole: &whole,
            said: BTreeMap::new(),
        };
        for (key, lines, allowed) in [("allow", &written.allow, true), ("deny", &written.deny, false)] {
            for (line, piece) in lines.iter().zip(piece.items(key, lines.len())) {
                self.line(line, piece, allowed, &mut cells);
            }
        }
        let said = cells.said;
        let rest = Ruling {
            allowed: allows,
            by: by(written.by.as_ref()),
            location: Arc::new(piece.location()),
        };
        let item = Item::new(piece, written.name.as_deref());
        let mut asked_of_resource = vec![false; whole.resources.len()];
        for (a, action) in whole.actions.iter().enumerate() {
            let fitting: Vec<usize> = whole.fitting(*action).collect();
            if fitting.is_empty() {
                let kind = action.resource().name();
                let never = Mistake::new(
                    action.id(),
                    format!("`{}` is asked about no resource of the table", action.id()),
                )
                .with_help(format!("add a `{kind}` to `resources`, or leave the action out"));
                self.keep::<()>(piece, Err(never));
            }
            for r in fitting {
                if let Some(asked) = asked_of_resource.get_mut(r) {
                    *asked = true;
                }
                for (p, principal) in whole.principals.iter().enumerate() {
                    let ruling = said.get(&(p, a, r)).unwrap_or(&rest);
                    let (Some(resource), Some(context)) = (whole.resources.get(r), contexts.get(a)) else {
                        continue;
                    };
                    let asked = Asked::Request {
                        action: *action,
                        resource: Arc::clone(resource),
                        context: Arc::clone(context),
                        allowed: ruling.allowed,
                    };
                    self.cases
                        .push(item.case(&ruling.location, principal, asked, ruling.by.as_ref()));
                }
            }
        }
        for (resource, asked) in whole.resources.iter().zip(asked_of_resource) {
            if !asked {
                let written = resource.to_string();
                let never = Mistake::new(&written, format!("no action of the table is done to {resource}")).with_help(
                    format!("add an action on a `{}`, or leave it out", resource.kind().name()),
                );
                self.keep::<()>(piece, Err(never));
            }
        }
    }

    /// One line of `allow` or `deny`.
    fn line(&mut self, line: &WrittenCells, piece: Piece<'_>, allowed: bool, cells: &mut Cells<'_>) {
        let whole = cells.whole;
        let axes = Axes {
            principals: match &line.principals {
                None => Some(whole.principals.clone()),
                Some(some) => self.keep_all(piece, some.all(), principal),
            },
            actions: self.actions(piece, line.actions.as_ref(), &whole.actions),
            resources: match &line.resources {
                None => Some(whole.resources.clone()),
                Some(some) => self.keep_all(piece, some.all(), |text| resource(text)),
            },
        };
        let Some(part) = axes.whole() else { return };
        let ruling = Ruling {
            allowed,
            by: by(line.by.as_ref()),
            location: Arc::new(piece.location()),
        };
        let mut is_empty = true;
        for action in &part.actions {
            for r in part.fitting(*action) {
                for principal in &part.principals {
                    let Some(resource) = part.resources.get(r) else {
                        continue;
                    };
                    is_empty = false;
                    let said = cells.say(principal, *action, resource, &ruling);
                    self.keep(piece, said);
                }
            }
        }
        if is_empty {
            let empty = Mistake::new("", "this line is about no cell of the table")
                .with_help("name an action and a resource that it is done to");
            self.keep::<()>(piece, Err(empty));
        }
    }

    /// The actions and the members of groups, each once, in the order of the vocabulary.
    fn actions(&mut self, piece: Piece<'_>, names: Option<&Several<String>>, all: &[Action]) -> Option<Vec<Action>> {
        let Some(names) = names else {
            return Some(all.to_vec());
        };
        let named = self.keep_all(piece, names.all(), |name| actions(name))?;
        let mut found: Vec<Action> = named.into_iter().flatten().collect();
        found.sort_unstable();
        found.dedup();
        Some(found)
    }

    /// For each action the attributes that it has.
    fn contexts(
        &mut self,
        piece: Piece<'_>,
        written: &Entries<serde_json::Value>,
        actions: &[Action],
    ) -> Option<Vec<Context>> {
        let unused = written
            .0
            .iter()
            .find(|(name, _)| !actions.iter().any(|action| has(*action, name)));
        if let Some((name, _)) = unused {
            let names = actions
                .iter()
                .flat_map(|action| action.context())
                .map(|known| known.name);
            let message = format!("no action of the table has `{name}` in its context");
            let unknown = Mistake::unknown(name, message, names, "leave it out");
            self.keep::<()>(piece, Err(unknown));
            return None;
        }
        self.keep_all(piece, actions, |action| context(*action, written, true))
    }
}

fn has(action: Action, attribute: &str) -> bool {
    action.context().iter().any(|known| known.name == attribute)
}

type Context = Arc<[(&'static str, Value)]>;

/// What a table is made of, where it could be read.
struct Axes {
    principals: Option<Vec<Arc<Principal>>>,
    actions: Option<Vec<Action>>,
    resources: Option<Vec<Arc<Resource>>>,
}

impl Axes {
    fn whole(self) -> Option<Whole> {
        Some(Whole {
            principals: self.principals?,
            actions: self.actions?,
            resources: self.resources?,
        })
    }
}

/// The principals, actions and resources of a table.
struct Whole {
    principals: Vec<Arc<Principal>>,
    actions: Vec<Action>,
    resources: Vec<Arc<Resource>>,
}

impl Whole {
    /// The places of the resources that an action is asked about.
    fn fitting(&self, action: Action) -> impl Iterator<Item = usize> {
        let fits = move |(_, resource): &(usize, &Arc<Resource>)| resource.kind() == action.resource();
        self.resources.iter().enumerate().filter(fits).map(|(r, _)| r)
    }
}

/// The answer of some cells, and the line that says it.
#[derive(Clone)]
struct Ruling {
    allowed: bool,
    by: Option<By>,
    location: Arc<Location>,
}

/// What the lines of a table have said about its cells.
struct Cells<'a> {
    whole: &'a Whole,
    said: BTreeMap<(usize, usize, usize), Ruling>,
}

impl Cells<'_> {
    fn say(
        &mut self,
        principal: &Principal,
        action: Action,
        resource: &Resource,
        ruling: &Ruling,
    ) -> Result<(), Mistake> {
        let place = |found: Option<usize>, word: &str, list: &str| {
            found.ok_or_else(|| {
                Mistake::new(word, format!("`{word}` is not in the table")).with_help(format!("add it to `{list}`"))
            })
        };
        let p = self.whole.principals.iter().position(|known| **known == *principal);
        let a = self.whole.actions.iter().position(|known| *known == action);
        let r = self.whole.resources.iter().position(|known| **known == *resource);
        let cell = (
            place(p, &principal.id, "principals")?,
            place(a, action.id(), "actions")?,
            place(r, &resource.to_string(), "resources")?,
        );
        match self.said.insert(cell, ruling.clone()) {
            None => Ok(()),
            Some(first) => {
                let cell = format!("`{}` on {resource} for `{}`", action.id(), principal.id);
                Err(Mistake::new("", format!("{cell} is said twice"))
                    .with_help(format!("line {} says it as well", first.location.line)))
            }
        }
    }
}

fn principal(written: &WrittenPrincipal) -> Result<Arc<Principal>, Mistake> {
    Ok(Arc::new(match written {
        WrittenPrincipal::Profile(name) => Principal::profile(name),
        WrittenPrincipal::Guest(WrittenGuest {
            caller: Some(id),
            module: None,
            signed_by: None,
            profile,
        }) => Principal::caller(id, profile),
        WrittenPrincipal::Guest(WrittenGuest {
            caller: None,
            module: Some(sha256),
            signed_by,
            profile,
        }) => {
            let is_digest = sha256.len() == 64 && sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if !is_digest {
                return Err(Mistake::new(sha256, format!("`{sha256}` is no digest of a module"))
                    .with_help("write the 64 hexadecimal digits that `sha256sum` prints"));
            }
            let module = Principal::module(sha256, profile);
            match signed_by {
                Some(publisher) => module.signed_by(publisher),
                None => module,
            }
        }
        WrittenPrincipal::Guest(WrittenGuest {
            caller: Some(_),
            module: None,
            ..
        }) => {
            return Err(Mistake::new("signed_by", "only modules are signed").with_help("leave out `signed_by`"));
        }
        WrittenPrincipal::Guest(_) => {
            return Err(Mistake::new("in", "a guest is either a `caller` or a `module`")
                .with_help("write {caller: guest, in: walkin}"));
        }
    }))
}

fn asked(written: &WrittenRequest) -> Result<Asked, Mistake> {
    let allowed = written.expect == Expect::Allow;
    if let Some(meter) = Meter::from_action(&written.action) {
        return amount_of(written, meter, allowed);
    }
    let action = action(&written.action)?;
    let kind = action.resource().name();
    let Some(text) = &written.resource else {
        return Err(
            Mistake::new(action.id(), format!("`{}` is done to something", action.id()))
                .with_help(format!("add `resource: {kind}::\"…\"`")),
        );
    };
    let resource = resource(text)?;
    if resource.kind() != action.resource() {
        return Err(
            Mistake::new(text, format!("`{}` is not done to {resource}", action.id()))
                .with_help(format!("name a `{kind}`")),
        );
    }
    Ok(Asked::Request {
        action,
        resource,
        context: context(action, &written.context, false)?,
        allowed,
    })
}

fn amount_of(written: &WrittenRequest, meter: Meter, allowed: bool) -> Result<Asked, Mistake> {
    let (action, unit) = (meter.action(), meter.unit().name());
    let right = format!("Meter::\"{}\"", meter.resource());
    if let Some(other) = written.resource.as_ref().filter(|resource| **resource != right) {
        return Err(Mistake::new(other, format!("`{action}` does not hang on `{other}`"))
            .with_help(format!("leave the resource out, or write `{right}`")));
    }
    match written.context.0.as_slice() {
        [(name, amount)] if name == unit => {
            let amount = amount
                .as_u64()
                .filter(|amount| i64::try_from(*amount).is_ok())
                .ok_or_else(|| Mistake::new(name, format!("`{name}` is not a number from 0 to {}", i64::MAX)))?;
            Ok(Asked::Amount { meter, amount, allowed })
        }
        _ => Err(
            Mistake::new(action, format!("the context of `{action}` is one number, `{unit}`"))
                .with_help(format!("write `context: {{{unit}: 1000}}`")),
        ),
    }
}

/// One action that a guest can ask for.
fn action(name: &str) -> Result<Action, Mistake> {
    Action::from_id(name).ok_or_else(|| {
        let known = || Action::all().map(Action::id);
        let vocabulary = vocabulary().ok();
        let info = vocabulary.and_then(|vocabulary| vocabulary.actions.get(name));
        match info.and_then(|info| info.annotation("reserved")) {
            Some(why) => Mistake::new(name, format!("nothing in this runtime asks about `{name}`"))
                .with_help(format!("it is reserved: {why}")),
            None if vocabulary.is_some_and(|vocabulary| vocabulary.members(name).next().is_some()) => {
                Mistake::new(name, format!("`{name}` is a group of actions"))
                    .with_help("name one of them, or write a table, which takes groups")
            }
            None => Mistake::unknown(
                name,
                format!("there is no action `{name}`"),
                known().chain(Meter::ALL.iter().map(|meter| meter.action())),
                "the actions are listed in the schema",
            ),
        }
    })
}

/// An action, or everything in a group that a guest can ask for.
fn actions(name: &str) -> Result<Vec<Action>, Mistake> {
    if Meter::from_action(name).is_some() {
        return Err(Mistake::new(name, format!("`{name}` is a meter")).with_help("put it under `bounds`"));
    }
    let members: Vec<Action> = vocabulary()
        .ok()
        .into_iter()
        .flat_map(|vocabulary| vocabulary.members(name))
        .filter_map(|(member, _)| Action::from_id(member))
        .collect();
    if members.is_empty() {
        return action(name).map(|action| vec![action]);
    }
    Ok(members)
}

fn resource(text: &str) -> Result<Arc<Resource>, Mistake> {
    text.parse()
        .map(Arc::new)
        .map_err(|error: crate::ResourceError| Mistake::new(text, error.to_string()))
}

/// The attributes that an action has; where `shared` is said, others belong to other actions.
fn context(action: Action, written: &Entries<serde_json::Value>, shared: bool) -> Result<Context, Mistake> {
    let id = action.id();
    let known = action.context();
    let mut context = Vec::new();
    for (name, value) in &written.0 {
        match known.iter().find(|attribute| attribute.name == *name) {
            Some(attribute) => context.push((attribute.name, value_of(attribute, value)?)),
            None if shared => {}
            None => {
                let names: Vec<&str> = known.iter().map(|attribute| attribute.name).collect();
                let help = match names.as_slice() {
                    [] => "it has none: leave `context` out".to_owned(),
                    names => format!("it has {}", names.join(", ")),
                };
                let message = format!("`{id}` has no `{name}` in its context");
                return Err(Mistake::unknown(name, message, names, &help));
            }
        }
    }
    let missing = known
        .iter()
        .find(|attribute| attribute.required && !context.iter().any(|(name, _)| *name == attribute.name));
    match missing {
        None => Ok(Arc::from(context)),
        Some(missing) => Err(
            Mistake::new(id, format!("`{id}` is never asked without `{}`", missing.name))
                .with_help(format!("write `context: {{{}: …}}`", missing.name)),
        ),
    }
}

fn value_of(attribute: &Attribute, value: &serde_json::Value) -> Result<Value, Mistake> {
    let found = match attribute.kind {
        ValueKind::Text => value.as_str().map(|text| Value::Text(text.to_owned())),
        ValueKind::Long => value.as_i64().map(Value::Long),
    };
    let kind = match attribute.kind {
        ValueKind::Text => "a string; put it in quotes",
        ValueKind::Long => "a whole number",
    };
    found.ok_or_else(|| {
        Mistake::new(attribute.name, format!("`{}` cannot be `{value}`", attribute.name))
            .with_help(format!("it is {kind}"))
    })
}

fn bound_of((name, written): &(String, WrittenBound)) -> Result<(Meter, Bound, Option<By>), Mistake> {
    let meter = Meter::from_action(name).ok_or_else(|| {
        let message = format!("there is no meter `{name}`");
        let known = Meter::ALL.iter().map(|meter| meter.action());
        Mistake::unknown(name, message, known, "the meters are listed in the schema")
    })?;
    let (amount, ids) = match written {
        WrittenBound::Number(number) => (WrittenAmount::Number(*number), None),
        WrittenBound::Text(text) => (WrittenAmount::Text(text.clone()), None),
        WrittenBound::Set(set) => (set.most.clone(), Some(&set.by)),
    };
    let most = match &amount {
        WrittenAmount::Number(number) => bound_text::number(*number),
        WrittenAmount::Text(text) => bound_text::read(text, meter.unit()),
    };
    match most {
        Ok(most) => Ok((meter, most, by(ids))),
        Err(message) => Err(Mistake::new(name, format!("`{name}`: {message}"))),
    }
}
