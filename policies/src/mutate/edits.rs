//! What can be slightly wrong with one policy.
//!
//! Edits are made to Cedar's JSON form, never to text, and are kept as a place and what changes there: a policy of
//! megabytes has many mutants, and only the one that is being judged is written out.

use serde_json::{Value as Json, json};

use super::Operator;
use super::surroundings::{Surroundings, sibling_action};

/// Everything that can be slightly wrong with one policy.
#[derive(Debug)]
pub(crate) struct Edits {
    places: Vec<Place>,
    edits: Vec<Edit>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Edit {
    pub(crate) operator: Operator,
    at: usize,
    change: Change,
}

/// Where in the policy: the place above it, and the step from there.
#[derive(Debug)]
struct Place {
    above: Option<usize>,
    step: Step,
}

#[derive(Debug, Clone)]
enum Step {
    Root,
    Key(String),
    Index(usize),
}

#[derive(Debug, Clone, PartialEq)]
enum Change {
    /// Without the whole policy.
    Drop,
    /// This instead.
    Put(Json),
    /// Only this part of it: the keys that lead there.
    Keep(Vec<&'static str>),
    /// The opposite.
    Negate,
    /// The same operands under another operator.
    Rename(&'static str, &'static str),
    /// Without this element.
    Remove(usize),
}

impl Edits {
    /// Reads a policy for what could be wrong with it, in one order.
    pub(crate) fn of(policy: &Json, surroundings: &Surroundings<'_>) -> Self {
        let mut reader = Reader {
            surroundings,
            edits: Self {
                places: Vec::new(),
                edits: Vec::new(),
            },
            waiting: Vec::new(),
        };
        reader.policy(policy);
        reader.edits
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Edit> {
        self.edits.iter()
    }

    /// The policy with this edit; nothing where the whole policy is dropped.
    pub(crate) fn apply(&self, edit: &Edit, policy: &Json) -> Option<Json> {
        if edit.change == Change::Drop {
            return None;
        }
        let mut changed = policy.clone();
        let mut steps = Vec::new();
        let mut at = Some(edit.at);
        while let Some(place) = at.and_then(|at| self.places.get(at)) {
            steps.push(&place.step);
            at = place.above;
        }
        let target = steps.iter().rev().try_fold(&mut changed, |value, step| match step {
            Step::Root => Some(value),
            Step::Key(key) => value.get_mut(key),
            Step::Index(index) => value.get_mut(*index),
        });
        if let Some(target) = target {
            make(target, &edit.change);
        }
        Some(changed)
    }
}

/// Changes what is at a place, which is where the edit was found.
fn make(target: &mut Json, change: &Change) {
    match change {
        Change::Drop => {}
        Change::Put(value) => *target = value.clone(),
        Change::Keep(keys) => {
            let kept = keys.iter().try_fold(&mut *target, |value, key| value.get_mut(key));
            if let Some(kept) = kept.map(Json::take) {
                *target = kept;
            }
        }
        Change::Negate => *target = json!({ "!": { "arg": target.take() } }),
        Change::Rename(from, to) => {
            if let Some(operands) = target.get_mut(from).map(Json::take) {
                *target = json!({ *to: operands });
            }
        }
        Change::Remove(index) => {
            if let Some(elements) = target.as_array_mut().filter(|elements| *index < elements.len()) {
                elements.remove(*index);
            }
        }
    }
}

struct Reader<'a> {
    surroundings: &'a Surroundings<'a>,
    edits: Edits,
    /// Expressions that are still to be read: a stack instead of a recursion, because policies may be nested deeply.
    waiting: Vec<(usize, &'a Json)>,
}

impl<'a> Reader<'a> {
    fn place(&mut self, above: Option<usize>, step: Step) -> usize {
        self.edits.places.push(Place { above, step });
        self.edits.places.len() - 1
    }

    fn key(&mut self, above: usize, key: &str) -> usize {
        self.place(Some(above), Step::Key(key.to_owned()))
    }

    fn add(&mut self, operator: Operator, at: usize, change: Change) {
        let edit = Edit { operator, at, change };
        // The same thing can only be wrong twice at one place, and edits of one place follow each other.
        if !self.edits.edits.iter().rev().take(8).any(|other| *other == edit) {
            self.edits.edits.push(edit);
        }
    }

    fn put(&mut self, operator: Operator, at: usize, value: Json) {
        self.add(operator, at, Change::Put(value));
    }

    fn policy(&mut self, policy: &'a Json) {
        let root = self.place(None, Step::Root);
        self.add(Operator::DropPolicy, root, Change::Drop);
        let effect = self.key(root, "effect");
        let opposite = if text(policy, "effect") == "permit" {
            "forbid"
        } else {
            "permit"
        };
        self.put(Operator::FlipEffect, effect, json!(opposite));
        self.scope(root, policy, "principal", Operator::WidenPrincipal);
        self.actions(root, policy);
        self.scope(root, policy, "resource", Operator::WidenResource);
        let conditions = self.key(root, "conditions");
        for (index, clause) in elements(policy, "conditions").iter().enumerate() {
            self.add(Operator::DropClause, conditions, Change::Remove(index));
            let place = self.place(Some(conditions), Step::Index(index));
            let kind = self.key(place, "kind");
            let other = if text(clause, "kind") == "when" {
                "unless"
            } else {
                "when"
            };
            self.put(Operator::NegateClause, kind, json!(other));
            if let Some(body) = clause.get("body") {
                let body_place = self.key(place, "body");
                self.waiting.push((body_place, body));
                self.expressions();
            }
        }
    }

    /// `==` to `in` to anything, `is` to anything.
    fn scope(&mut self, root: usize, policy: &Json, name: &str, operator: Operator) {
        let Some(constraint) = policy.get(name) else { return };
        let at = self.key(root, name);
        let within = constraint.get("entity");
        match (text(constraint, "op"), within) {
            ("==", Some(entity)) => self.put(operator, at, json!({ "op": "in", "entity": entity })),
            ("is", _) if constraint.get("in").is_some() => {
                let alone = json!({ "op": "is", "entity_type": constraint.get("entity_type") });
                self.put(operator, at, alone);
            }
            _ => {}
        }
        if text(constraint, "op") != "All" {
            self.put(operator, at, json!({ "op": "All" }));
        }
        if let Some(other) = within.and_then(|entity| self.surroundings.sibling(entity)) {
            let entity = self.key(at, "entity");
            self.put(Operator::SwapEntity, entity, other);
        }
    }

    /// One action to the groups that it is in, a list to what is left without one of it, each to anything.
    fn actions(&mut self, root: usize, policy: &Json) {
        let Some(constraint) = policy.get("action") else { return };
        let at = self.key(root, "action");
        let listed = elements(constraint, "entities");
        let named: Vec<&Json> = constraint.get("entity").into_iter().chain(listed).collect();
        if named.is_empty() {
            return;
        }
        for group in self.surroundings.groups_over(&named) {
            self.put(Operator::WidenAction, at, json!({ "op": "in", "entity": group }));
        }
        self.put(Operator::WidenAction, at, json!({ "op": "All" }));
        if listed.len() > 1 {
            let list = self.key(at, "entities");
            for index in 0..listed.len() {
                self.add(Operator::DropAction, list, Change::Remove(index));
            }
        }
        if let Some(entity) = constraint.get("entity")
            && let Some(other) = sibling_action(entity)
        {
            let place = self.key(at, "entity");
            self.put(Operator::SwapEntity, place, other);
        }
    }

    fn expressions(&mut self) {
        while let Some((at, expr)) = self.waiting.pop() {
            self.expression(at, expr);
        }
    }

    fn expression(&mut self, at: usize, expr: &'a Json) {
        if let Some(number) = constant(expr) {
            self.bounds(at, number);
            return;
        }
        let Some((name, operands)) = expr.as_object().and_then(|object| object.iter().next()) else {
            return;
        };
        match name.as_str() {
            "Value" => self.literal(at, operands),
            "&&" => self.connective(at, "&&", "||", operands),
            "||" => self.connective(at, "||", "&&", operands),
            "if-then-else" => {
                let inner = self.key(at, name);
                let condition = self.key(inner, "if");
                self.add(Operator::NegateOperand, condition, Change::Negate);
            }
            "like" => self.pattern(at, operands),
            "Set" => self.set(at, operands),
            _ => self.comparison(at, name),
        }
        self.below(at, name, operands);
    }

    /// A number: one more, one less, and a zero too many or too few.
    fn bounds(&mut self, at: usize, number: i64) {
        let moved = [
            number.checked_add(1),
            number.checked_sub(1),
            number.checked_mul(10),
            Some(number / 10),
        ];
        for moved in moved.into_iter().flatten().filter(|moved| *moved != number) {
            self.put(Operator::MoveBound, at, json!({ "Value": moved }));
        }
    }

    fn literal(&mut self, at: usize, value: &Json) {
        if let Some(other) = value
            .get("__entity")
            .and_then(|entity| self.surroundings.sibling(entity))
        {
            self.put(Operator::SwapEntity, at, json!({ "Value": { "__entity": other } }));
        }
    }

    /// An operand that is a chain of the same connective is left to its own parts.
    fn connective(&mut self, at: usize, name: &'static str, other: &'static str, operands: &Json) {
        self.add(Operator::SwapConnective, at, Change::Rename(name, other));
        let inner = self.key(at, name);
        for (side, kept) in [("left", "right"), ("right", "left")] {
            let Some(operand) = operands.get(side) else { continue };
            if operand.get(name).is_some() {
                continue;
            }
            self.add(Operator::DropOperand, at, Change::Keep(vec![name, kept]));
            let place = self.key(inner, side);
            let change = if operand.get("!").is_some() {
                Change::Keep(vec!["!", "arg"])
            } else {
                Change::Negate
            };
            self.add(Operator::NegateOperand, place, change);
        }
    }

    /// `/data/*` to `/data*` and to `*`: what a hurried author writes.
    fn pattern(&mut self, at: usize, operands: &Json) {
        let inner = self.key(at, "like");
        let place = self.key(inner, "pattern");
        let parts = elements(operands, "pattern");
        let is_literal = |part: &Json| part.get("Literal").is_some();
        for (index, pair) in parts.windows(2).enumerate() {
            let [literal, wildcard] = pair else { continue };
            if is_literal(literal) && !is_literal(wildcard) {
                let loosened = without_last_character(parts, index);
                if loosened.iter().any(is_literal) {
                    self.put(Operator::LoosenPattern, place, Json::Array(loosened));
                }
            }
        }
        if parts.iter().any(is_literal) {
            self.put(Operator::LoosenPattern, place, json!(["Wildcard"]));
        }
    }

    /// A set of one is left whole: Cedar has no type for an empty one.
    fn set(&mut self, at: usize, members: &Json) {
        let count = members.as_array().map_or(0, Vec::len);
        if count > 1 {
            let place = self.key(at, "Set");
            for index in 0..count {
                self.add(Operator::DropElement, place, Change::Remove(index));
            }
        }
    }

    fn comparison(&mut self, at: usize, name: &str) {
        let others: (&'static str, &[&'static str]) = match name {
            "<" => ("<", &["<=", ">"]),
            "<=" => ("<=", &["<", ">="]),
            ">" => (">", &[">=", "<"]),
            ">=" => (">=", &[">", "<="]),
            "==" => ("==", &["!="]),
            "!=" => ("!=", &["=="]),
            "containsAll" => ("containsAll", &["containsAny"]),
            "containsAny" => ("containsAny", &["containsAll"]),
            _ => return,
        };
        for other in others.1 {
            self.add(Operator::ChangeComparison, at, Change::Rename(others.0, other));
        }
    }

    /// Pushed in reverse, so that what stands first is read first.
    fn below(&mut self, at: usize, name: &str, operands: &'a Json) {
        if matches!(name, "Value" | "Var" | "Slot" | "Unknown") {
            return;
        }
        let inner = self.key(at, name);
        match operands {
            Json::Array(elements) => {
                for (index, element) in elements.iter().enumerate().rev() {
                    let place = self.place(Some(inner), Step::Index(index));
                    self.waiting.push((place, element));
                }
            }
            Json::Object(fields) => {
                let in_order: &[&str] = &["if", "then", "else", "left", "right", "arg", "in"];
                let is_record = name == "Record";
                let expressions = fields
                    .iter()
                    .filter(|(field, value)| value.is_object() && (is_record || in_order.contains(&field.as_str())));
                let mut found: Vec<(&String, &Json)> = expressions.collect();
                found.sort_by_key(|(field, _)| in_order.iter().position(|known| known == field));
                for (field, value) in found.into_iter().rev() {
                    let place = self.key(inner, field);
                    self.waiting.push((place, value));
                }
            }
            _ => {}
        }
    }
}

fn text<'a>(value: &'a Json, key: &str) -> &'a str {
    value.get(key).and_then(Json::as_str).unwrap_or_default()
}

fn elements<'a>(value: &'a Json, key: &str) -> &'a [Json] {
    value.get(key).and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

/// A pattern whose literal at this place lacks its last character.
fn without_last_character(parts: &[Json], index: usize) -> Vec<Json> {
    let mut loosened = parts.to_vec();
    let literal = loosened.get(index).and_then(|part| part.get("Literal")?.as_str());
    let mut shorter = literal.unwrap_or_default().to_owned();
    shorter.pop();
    if shorter.is_empty() {
        loosened.remove(index);
    } else if let Some(part) = loosened.get_mut(index) {
        *part = json!({ "Literal": shorter });
    }
    loosened
}

/// The value of an expression of literals: `4 * 1024 * 1024` is one number to its author.
fn constant(expr: &Json) -> Option<i64> {
    let (name, operands) = expr.as_object()?.iter().next()?;
    let side = |side: &str| operands.get(side).and_then(constant);
    match name.as_str() {
        "Value" => operands.as_i64(),
        "neg" => side("arg")?.checked_neg(),
        "+" => side("left")?.checked_add(side("right")?),
        "-" => side("left")?.checked_sub(side("right")?),
        "*" => side("left")?.checked_mul(side("right")?),
        _ => None,
    }
}
