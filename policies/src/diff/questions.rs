//! Questions that policies suggest: what they name, what is in it and around it, and what they compare with.
//!
//! Each name stands for a place where the two sides may part. Whatever no policy mentions is asked about once, as `x`.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::Policy;
use cedar_policy::pst::{BinaryOp, Expr, Literal, Var};

use super::allowed::{named, pattern_of};
use crate::condition::expr_of;
use crate::resource::{Resource, ResourceKind};
use crate::vocabulary::{Action, Attribute, Value, ValueKind};

/// Enough for every combination that a handful of policies mention.
const MOST_RESOURCES: usize = 1000;
const MOST_CONTEXTS: usize = 64;
/// Questions about one action. Asking two plans takes some 0.1 ms.
const MOST: usize = 4000;

/// Patterns that another one at the same place is filled with.
const MOST_OTHERS: usize = 12;

/// A name that no policy mentions.
const ANYTHING: &str = "x";

/// One question, without its action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) resource: Resource,
    pub(super) context: Vec<(&'static str, Value)>,
}

/// What policies mention.
#[derive(Debug, Default)]
pub(super) struct Mentioned {
    entities: BTreeSet<String>,
    texts: BTreeMap<Place, BTreeSet<String>>,
    patterns: BTreeMap<Place, BTreeSet<Vec<Option<char>>>>,
    numbers: BTreeSet<i64>,
}

/// Where a text is compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// With an attribute of the context.
    Context(String),
    /// With an attribute of the resource.
    Resource(String),
    /// With something else.
    Elsewhere,
}

impl Place {
    fn of(expr: &Expr) -> Self {
        let Expr::GetAttr { expr, attr } = expr else {
            return Self::Elsewhere;
        };
        match &**expr {
            Expr::Var(Var::Context) => Self::Context(attr.to_string()),
            Expr::Var(Var::Resource) => Self::Resource(attr.to_string()),
            _ => Self::Elsewhere,
        }
    }
}

impl Mentioned {
    /// What these policies mention, after partial evaluation.
    pub(super) fn by<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> Result<Self, String> {
        let mut mentioned = Self::default();
        for policy in policies {
            let policy = policy.to_pst().map_err(|error| error.to_string())?;
            for clause in policy.body().clauses() {
                mentioned.read(expr_of(clause));
            }
        }
        mentioned.fill_patterns();
        Ok(mentioned)
    }

    /// Adds what is declared of the action's kind of resource: a declared thing has parents that its name does not show.
    pub(super) fn and_declared(mut self, declared: impl IntoIterator<Item = (String, String)>) -> Self {
        let written = declared.into_iter().map(|(type_, id)| named(&type_, &id));
        self.entities.extend(written);
        self
    }

    /// The questions about one action, those with the fewest attributes first.
    pub(super) fn questions(&self, action: Action) -> Vec<Asked> {
        let resources = self.resources(action.resource());
        let contexts = self.contexts(action.context());
        let crossed = contexts.iter().flat_map(|context| {
            resources.iter().map(|resource| Asked {
                resource: resource.clone(),
                context: context.clone(),
            })
        });
        crossed.take(MOST).collect()
    }

    fn read(&mut self, expr: &Expr) {
        match expr {
            Expr::Literal(Literal::EntityUID(uid)) => {
                self.entities.insert(named(&uid.ty.to_string(), &uid.eid));
            }
            Expr::Literal(Literal::Long(number)) => {
                self.numbers.insert(*number);
            }
            Expr::Literal(Literal::String(text)) => self.add(Place::Elsewhere, text),
            Expr::UnaryOp { expr, .. } | Expr::GetAttr { expr, .. } => self.read(expr),
            Expr::HasAttr { expr, attrs } => self.has(expr, &attrs.head),
            Expr::Like { expr, pattern } => {
                let patterns = self.patterns.entry(Place::of(expr)).or_default();
                patterns.insert(pattern_of(pattern));
            }
            Expr::BinaryOp { op, left, right } => self.operation(*op, left, right),
            Expr::Is { expr, in_expr, .. } => {
                self.read(expr);
                if let Some(above) = in_expr {
                    self.read(above);
                }
            }
            Expr::IfThenElse {
                cond,
                then_expr,
                else_expr,
            } => {
                for part in [cond, then_expr, else_expr] {
                    self.read(part);
                }
            }
            Expr::Set(elements) => {
                for element in elements {
                    self.read(element);
                }
            }
            Expr::Record(fields) => {
                for field in fields.values() {
                    self.read(field);
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, place: Place, text: &str) {
        self.texts.entry(place).or_default().insert(text.to_owned());
    }

    /// An attribute that is asked for is worth a question that has it.
    fn has(&mut self, expr: &Expr, attribute: &str) {
        if matches!(expr, Expr::Var(Var::Context)) {
            self.add(Place::Context(attribute.to_owned()), ANYTHING);
        }
    }

    /// Texts for the patterns: each alone, and with what another asks for at the same place in its gaps.
    fn fill_patterns(&mut self) {
        for (place, patterns) in &self.patterns {
            let texts = self.texts.entry(place.clone()).or_default();
            for pattern in patterns {
                texts.extend(examples_of(pattern));
                let others = patterns.iter().take(MOST_OTHERS).filter(|other| *other != pattern);
                texts.extend(others.map(|other| filled(pattern, &filled(other, ""))));
            }
        }
    }

    fn operation(&mut self, op: BinaryOp, left: &Expr, right: &Expr) {
        match (op, left, right) {
            (BinaryOp::Eq | BinaryOp::NotEq, Expr::Literal(Literal::String(text)), of)
            | (BinaryOp::Eq | BinaryOp::NotEq, of, Expr::Literal(Literal::String(text))) => {
                self.add(Place::of(of), text);
            }
            (BinaryOp::Contains, Expr::Set(elements), of) => {
                for element in elements {
                    match &**element {
                        Expr::Literal(Literal::String(text)) => self.add(Place::of(of), text),
                        other => self.read(other),
                    }
                }
            }
            _ => {
                self.read(left);
                self.read(right);
            }
        }
    }

    fn contexts(&self, attributes: &'static [Attribute]) -> Vec<Vec<(&'static str, Value)>> {
        let mut contexts = vec![Vec::new()];
        for attribute in attributes {
            let values = self.values_of(attribute);
            let with = |value: &Option<Value>| {
                let added = value.clone().map(|value| (attribute.name, value));
                contexts
                    .iter()
                    .map(move |context: &Vec<_>| context.iter().cloned().chain(added.clone()).collect())
                    .collect::<Vec<Vec<_>>>()
            };
            contexts = values.iter().flat_map(with).collect();
            contexts.sort_by_key(Vec::len);
            contexts.truncate(MOST_CONTEXTS);
        }
        contexts
    }

    /// The values that an attribute is asked about with; none stands for its absence.
    fn values_of(&self, attribute: &Attribute) -> Vec<Option<Value>> {
        let mut values = Vec::new();
        if !attribute.required {
            values.push(None);
        }
        let mentioned = self.texts.get(&Place::Context(attribute.name.to_owned()));
        if attribute.required || mentioned.is_some() {
            match attribute.kind {
                ValueKind::Text => {
                    let texts = mentioned.into_iter().flatten().map(String::as_str);
                    let all: Vec<&str> = [ANYTHING].into_iter().chain(texts).collect();
                    values.extend(once_each(all).map(|text| Some(Value::Text(text.to_owned()))));
                }
                ValueKind::Long => {
                    let around = self
                        .numbers
                        .iter()
                        .flat_map(|n| [n.saturating_sub(1), *n, n.saturating_add(1)]);
                    let all: BTreeSet<i64> = around.chain([0]).collect();
                    values.extend(all.into_iter().map(|number| Some(Value::Long(number))));
                }
            }
        }
        values
    }

    fn resources(&self, kind: ResourceKind) -> Vec<Resource> {
        let named: Vec<Resource> = self.entities.iter().filter_map(|text| text.parse().ok()).collect();
        let mut found = match kind {
            ResourceKind::Database => self
                .databases(&named)
                .iter()
                .map(|name| Resource::database(name))
                .collect(),
            ResourceKind::Table => self.tables(&named),
            ResourceKind::Column => self.columns(&named),
            ResourceKind::Path => self.paths(&named),
            ResourceKind::HostFunction => self.plain(&named, kind, Resource::host_function),
            ResourceKind::SqlFunction => self.plain(&named, kind, Resource::sql_function),
            ResourceKind::Pragma => self.plain(&named, kind, Resource::pragma),
            ResourceKind::Namespace => self.plain(&named, kind, Resource::namespace),
            ResourceKind::Variable => self.plain(&named, kind, Resource::variable),
        };
        found.truncate(MOST_RESOURCES);
        found
    }

    /// What is compared with one of these attributes of a resource, or with something that is not known to be one.
    fn texts(&self, attributes: &[&str]) -> impl Iterator<Item = &str> {
        let places = attributes.iter().map(|name| Place::Resource((*name).to_owned()));
        let sets: Vec<&BTreeSet<String>> = places
            .chain([Place::Elsewhere])
            .filter_map(|place| self.texts.get(&place))
            .collect();
        sets.into_iter().flatten().map(String::as_str)
    }

    fn databases(&self, named: &[Resource]) -> Vec<String> {
        let of_named = named.iter().filter_map(|resource| match resource {
            Resource::Database(database) | Resource::Table { database, .. } | Resource::Column { database, .. } => {
                Some(database.as_str())
            }
            _ => None,
        });
        let all: Vec<&str> = of_named
            .chain(["main", "temp"])
            .chain(self.texts(&["database"]))
            .chain([ANYTHING])
            .collect();
        once_each(all).map(str::to_owned).collect()
    }

    fn table_names(&self, named: &[Resource], attribute: &str) -> Vec<String> {
        let of_named = named.iter().filter_map(|resource| match resource {
            Resource::Table { table, .. } | Resource::Column { table, .. } => Some(table.as_str()),
            _ => None,
        });
        let all: Vec<&str> = of_named.chain([ANYTHING]).chain(self.texts(&[attribute])).collect();
        once_each(all).map(str::to_owned).collect()
    }

    fn tables(&self, named: &[Resource]) -> Vec<Resource> {
        let databases = self.databases(named);
        let cross = |table: String| {
            let tables = databases.iter().map(move |database| Resource::table(database, &table));
            tables.collect::<Vec<_>>()
        };
        self.table_names(named, "name").into_iter().flat_map(cross).collect()
    }

    fn columns(&self, named: &[Resource]) -> Vec<Resource> {
        let of_named = named.iter().filter_map(|resource| match resource {
            Resource::Column { column, .. } => Some(column.as_str()),
            _ => None,
        });
        let all: Vec<&str> = of_named
            .chain([ANYTHING])
            .chain(self.texts(&["name"]))
            .chain([""])
            .collect();
        let names: Vec<&str> = once_each(all).collect();
        let databases = self.databases(named);
        let mut found: Vec<Resource> = named
            .iter()
            .filter(|resource| resource.kind() == ResourceKind::Column)
            .cloned()
            .collect();
        for table in self.table_names(named, "table") {
            for database in &databases {
                found.extend(names.iter().map(|name| Resource::column(database, &table, name)));
            }
        }
        found
    }

    fn paths(&self, named: &[Resource]) -> Vec<Resource> {
        let of_named = named.iter().filter_map(|resource| match resource {
            Resource::Path(path) => Some(path.as_str()),
            _ => None,
        });
        let roots: Vec<&str> = of_named.chain(self.texts(&["name"])).chain(["/x", "x", ""]).collect();
        let mut found = Vec::new();
        for root in once_each(roots) {
            let below = format!("{}/{ANYTHING}", root.trim_end_matches('/'));
            found.push(Resource::path(root));
            found.push(Resource::path(&below));
            found.push(Resource::path(&format!("{root}{ANYTHING}")));
            found.extend(Resource::path(root).parents());
        }
        found
    }

    fn plain(&self, named: &[Resource], kind: ResourceKind, make: impl Fn(&str) -> Resource) -> Vec<Resource> {
        let of_kind = named.iter().filter(|resource| resource.kind() == kind).cloned();
        of_kind
            .chain([ANYTHING].into_iter().chain(self.texts(&["name"])).map(make))
            .collect()
    }
}

/// In the order in which they first come.
fn once_each(all: Vec<&str>) -> impl Iterator<Item = &str> {
    let mut seen = BTreeSet::new();
    all.into_iter().filter(move |text| seen.insert(*text))
}

/// Texts that fit a pattern, and texts that just miss it.
fn examples_of(pattern: &[Option<char>]) -> Vec<String> {
    let bare = filled(pattern, "");
    let shorter: String = bare.chars().take(bare.chars().count().saturating_sub(1)).collect();
    let longer = format!("{bare}{ANYTHING}");
    let before = format!("{ANYTHING}{bare}");
    vec![bare, filled(pattern, ANYTHING), shorter, longer, before]
}

/// A pattern with the same text for each of its wildcards.
fn filled(pattern: &[Option<char>], filling: &str) -> String {
    let part = |letter: &Option<char>| letter.map_or_else(|| filling.to_owned(), |letter| letter.to_string());
    pattern.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::SqlAction;

    fn questions(action: SqlAction, conditions: &[&str]) -> Vec<Asked> {
        let policies: Vec<Policy> = conditions
            .iter()
            .map(|condition| {
                Policy::parse(
                    None,
                    format!("permit (principal, action, resource) when {{ {condition} }};"),
                )
                .unwrap()
            })
            .collect();
        Mentioned::by(&policies).unwrap().questions(Action::Sql(action))
    }

    #[track_caller]
    fn assert_asked(asked: &[Asked], resources: &[&str]) {
        for resource in resources {
            let resource: Resource = resource.parse().unwrap();
            assert!(asked.iter().any(|asked| asked.resource == resource), "{resource}");
        }
    }

    #[test]
    fn what_is_in_it_and_around_it() {
        let asked = questions(SqlAction::Read, &[r#"resource in Table::"main.staff""#]);
        assert_asked(
            &asked,
            &[
                r#"Column::"main.staff.x""#,
                r#"Column::"main.staff.\"\"""#,
                r#"Column::"temp.staff.x""#,
                r#"Column::"main.x.x""#,
            ],
        );
        let asked = questions(SqlAction::Attach, &[r#"resource in Path::"/data""#]);
        assert_asked(
            &asked,
            &[
                r#"Path::"/data""#,
                r#"Path::"/data/x""#,
                r#"Path::"/datax""#,
                r#"Path::"/""#,
            ],
        );
    }

    #[test]
    fn patterns_are_filled_and_just_missed() {
        let asked = questions(SqlAction::Insert, &[r#"resource.name like "sqlite_*""#]);
        assert_asked(
            &asked,
            &[
                r#"Table::"main.sqlite_""#,
                r#"Table::"main.sqlite_x""#,
                r#"Table::"main.sqlite""#,
                r#"Table::"main.xsqlite_""#,
            ],
        );
    }

    #[test]
    fn patterns_meet() {
        let asked = questions(
            SqlAction::Insert,
            &[r#"resource.name like "report_*" && !(resource.name like "*_secret")"#],
        );
        assert_asked(&asked, &[r#"Table::"main.report__secret""#]);
    }

    #[test]
    fn attributes_are_there_and_missing() {
        let asked = questions(
            SqlAction::Pragma,
            &[r#"context has argument && context.argument == "7""#],
        );
        let arguments: BTreeSet<Option<&str>> = asked
            .iter()
            .map(|asked| match asked.context.as_slice() {
                [("argument", Value::Text(text))] => Some(text.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(arguments, BTreeSet::from([None, Some("7"), Some("x")]));
        assert!(asked[0].context.is_empty(), "the simplest first");
    }

    #[test]
    fn there_is_an_end_to_it() {
        let tables: Vec<String> = (0..3000).map(|n| format!("resource in Table::\"main.t{n}\"")).collect();
        let many: Vec<&str> = tables.iter().map(String::as_str).collect();
        assert!(questions(SqlAction::Read, &many).len() <= MOST);
    }
}
