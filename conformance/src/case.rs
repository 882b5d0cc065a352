//! One case: what a guest tries, and what must become of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::IntoDeserializer;
use serde::de::value::Error as WordError;
use serde::{Deserialize, Deserializer};
use stockade_policies::{Source, SourceKind};
use stockade_runtime::{Class, Layer, Module};

use crate::damage::{Damage, from_hex};
use crate::effect::{Effects, Returns};
use crate::made::Measures;

/// What an attacker is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Threat {
    /// Files outside the guest's database.
    Files,
    /// Code of the attacker's choice in the host process.
    Code,
    /// CPU time beyond the deadline.
    Time,
    /// Memory beyond the bound.
    Memory,
    /// Storage beyond the bound.
    Storage,
    /// Rows that were not granted.
    Data,
    /// The schema, or acting later with somebody else's rights.
    Schema,
    /// Capabilities of the host that were not granted.
    Host,
    /// Logs, calls and results without end.
    Flood,
    /// The host's trust in pointers, lengths and text.
    Contract,
}

impl fmt::Display for Threat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize_name(f)
    }
}

impl Threat {
    fn serialize_name(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "files",
            Self::Code => "code",
            Self::Time => "time",
            Self::Memory => "memory",
            Self::Storage => "storage",
            Self::Data => "data",
            Self::Schema => "schema",
            Self::Host => "host",
            Self::Flood => "flood",
            Self::Contract => "contract",
        })
    }
}

/// A guest's program, with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// An SQL script.
    Sql(String),
    /// A module, and how it is called.
    Module {
        /// The module.
        code: Code,
        /// The export to call.
        invoke: Option<String>,
        /// Its arguments.
        arguments: Vec<String>,
        /// Input for the input/output contract.
        input: String,
        /// A publisher's signature of it.
        signature: Option<Vec<u8>>,
        /// Keys and values of its namespace.
        state: BTreeMap<String, String>,
        /// Variables that it may ask for.
        environment: BTreeMap<String, String>,
    },
}

/// Modules that were compiled from another language, by name.
pub type Modules = BTreeMap<String, Cow<'static, [u8]>>;

/// How a module is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// In text format, with placeholders.
    Text(String),
    /// Made to measure.
    Made(Measures),
    /// Byte by byte.
    Bytes(Module),
}

/// What a case demands of an attack.
#[derive(Debug, Clone, PartialEq)]
pub struct Attack {
    /// What the attacker is after.
    pub threat: Threat,
    /// Common weakness enumeration ids.
    pub cwe: Vec<u32>,
    /// Layers each of which alone stops it, and without all of which nothing does.
    pub stopped_by: Vec<Layer>,
    /// Why no second layer can stop it, where there is only one.
    pub single: Option<String>,
    /// A benign case that does the same just below the bound.
    pub twin: Option<String>,
    /// The harm, as seen in a run that nobody defends.
    pub control: Effects,
}

/// What a case demands of an honest guest.
#[derive(Debug, Clone, PartialEq)]
pub struct Benign {
    /// What it hands back.
    pub returns: Returns,
}

/// What a case demands of what was a fault once, in SQLite or in a guard.
#[derive(Debug, Clone, PartialEq)]
pub struct Regression {
    /// What it hands back, where it completes.
    pub returns: Returns,
}

/// Attack, honest, or a fault that must not come back.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Must be stopped.
    Attack(Attack),
    /// Must not be.
    Benign(Benign),
    /// Must end as it says, and undefended too must neither crash nor hang.
    Regression(Regression),
}

/// What must become of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// An outcome of this class.
    Class(Class),
    /// No outcome: the database cannot be used, and whoever gave it is told so.
    Unusable,
}

impl Expected {
    const UNUSABLE: &str = "unusable";

    /// The class, where there must be an outcome.
    #[must_use]
    pub const fn class(self) -> Option<Class> {
        match self {
            Self::Class(class) => Some(class),
            Self::Unusable => None,
        }
    }

    fn is_completed(self) -> bool {
        self.class().is_some_and(Class::is_completed)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Class(class) => class.name(),
            Self::Unusable => Self::UNUSABLE,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl serde::Serialize for Expected {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        if word == Self::UNUSABLE {
            return Ok(Self::Unusable);
        }
        Class::deserialize(word.into_deserializer())
            .map(Self::Class)
            .map_err(|error: WordError| serde::de::Error::custom(error))
    }
}

/// What a guest tries, and what must become of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// The path below the corpus, without its ending: `sql/attach-reads-host-file`.
    pub id: String,
    /// Why it matters.
    pub why: String,
    /// Promises and pages it comes from.
    pub source: Vec<String>,
    /// The stock profile whose member the guest is.
    pub profile: String,
    /// Cedar policies added to the stock ones.
    pub policies: Option<String>,
    /// Entities added to the stock ones, in JSON.
    pub entities: Option<String>,
    /// The file below `fixtures` that builds the guest's database.
    pub fixture: Option<String>,
    /// What is done to the fixture's file before the guest meets it.
    pub damage: Vec<Damage>,
    /// The guest.
    pub program: Program,
    /// The class of the fenced run.
    pub expect: Expected,
    /// Attack, honest, or a fault that must not come back.
    pub kind: Kind,
}

impl Case {
    /// What the case adds to the stock policies: to be loaded with them.
    #[must_use]
    pub fn sources(&self) -> Vec<Source> {
        let policies = self.policies.iter().map(|text| (text, SourceKind::Policies));
        let entities = self.entities.iter().map(|text| (text, SourceKind::Entities));
        let source = |(text, kind): (&String, SourceKind)| Source {
            name: format!("{}.yaml", self.id),
            text: text.clone(),
            kind,
        };
        policies.chain(entities).map(source).collect()
    }

    /// What the case demands of an attack, if it is one.
    #[must_use]
    pub fn attack(&self) -> Option<&Attack> {
        match &self.kind {
            Kind::Attack(attack) => Some(attack),
            Kind::Benign(_) | Kind::Regression(_) => None,
        }
    }

    /// Whether the guest is an honest one.
    #[must_use]
    pub fn is_benign(&self) -> bool {
        matches!(self.kind, Kind::Benign(_))
    }

    /// Reads a case from YAML. It may name any of `modules`.
    ///
    /// # Errors
    /// [`CaseError`] for YAML that is not a case, and for a case that contradicts itself.
    pub fn parse(id: &str, file: &str, text: &str, modules: &Modules) -> Result<Self, CaseError> {
        let written: Written = serde_yaml::from_str(text).map_err(|error| CaseError::Syntax {
            file: file.to_owned(),
            line: error.location().map_or(1, |at| at.line()),
            reason: error.to_string(),
        })?;
        written
            .into_case(id, modules)
            .map_err(|reason| CaseError::Contradiction {
                file: file.to_owned(),
                reason,
            })
    }
}

/// Why a file is not a case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaseError {
    /// Not YAML, an unknown field, a missing one, a wrong type.
    #[error("{file}:{line}: {reason}")]
    Syntax {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The parts of the case do not fit each other.
    #[error("{file}: {reason}")]
    Contradiction {
        /// The file.
        file: String,
        /// What is wrong, and how to mend it.
        reason: String,
    },
}

/// A case as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    why: String,
    #[serde(default, deserialize_with = "one_or_many")]
    source: Vec<String>,
    #[serde(default)]
    cwe: Vec<u32>,
    threat: Option<Threat>,
    profile: String,
    policies: Option<String>,
    entities: Option<String>,
    fixture: Option<String>,
    #[serde(default)]
    damage: Vec<Damage>,
    guest: WrittenGuest,
    expect: Expected,
    #[serde(default)]
    stopped_by: Vec<Layer>,
    single: Option<String>,
    twin: Option<String>,
    control: Option<Effects>,
    returns: Option<Returns>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGuest {
    sql: Option<String>,
    wat: Option<String>,
    made: Option<Measures>,
    hex: Option<String>,
    module: Option<String>,
    invoke: Option<String>,
    #[serde(default)]
    arguments: Vec<String>,
    #[serde(default)]
    input: String,
    signature: Option<String>,
    #[serde(default)]
    state: BTreeMap<String, String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
}

fn one_or_many<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(source)? {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    })
}

impl Written {
    fn into_case(self, id: &str, modules: &Modules) -> Result<Case, String> {
        if self.why.trim().is_empty() {
            return Err("`why` is empty: say why the case matters".to_owned());
        }
        if !self.damage.is_empty() && self.fixture.is_none() {
            return Err("`damage` is done to a database: name its `fixture`".to_owned());
        }
        let kind = if id.starts_with("benign/") {
            Kind::Benign(self.benign()?)
        } else if id.starts_with("regression/") {
            Kind::Regression(self.regression()?)
        } else {
            Kind::Attack(self.attack()?)
        };
        Ok(Case {
            id: id.to_owned(),
            why: self.why.trim().to_owned(),
            source: self.source,
            profile: self.profile,
            policies: self.policies,
            entities: self.entities,
            fixture: self.fixture,
            damage: self.damage,
            program: self.guest.into_program(modules)?,
            expect: self.expect,
            kind,
        })
    }

    fn benign(&self) -> Result<Benign, String> {
        if !self.expect.is_completed() {
            return Err(format!(
                "a benign case expects `completed` or `truncated`, not `{}`",
                self.expect
            ));
        }
        if self.has_parts_of_an_attack() || !self.cwe.is_empty() {
            return Err("`threat`, `cwe`, `stopped_by`, `single`, `twin` and `control` belong to attacks".to_owned());
        }
        let returns = self
            .returns
            .clone()
            .filter(Returns::is_something)
            .ok_or("a benign case needs `returns`: without it nothing would show that the guest worked")?;
        Ok(Benign { returns })
    }

    fn regression(&self) -> Result<Regression, String> {
        if self.has_parts_of_an_attack() {
            return Err("`threat`, `stopped_by`, `single`, `twin` and `control` belong to attacks".to_owned());
        }
        if self.source.is_empty() {
            return Err("a regression needs `source`: where the fault is described".to_owned());
        }
        if self.returns.is_some() && !self.expect.is_completed() {
            return Err(format!("`{}` returns nothing", self.expect));
        }
        Ok(Regression {
            returns: self.returns.clone().unwrap_or_default(),
        })
    }

    fn has_parts_of_an_attack(&self) -> bool {
        self.threat.is_some()
            || self.control.is_some()
            || self.twin.is_some()
            || self.single.is_some()
            || !self.stopped_by.is_empty()
    }

    fn attack(&self) -> Result<Attack, String> {
        if self.expect == Expected::Unusable {
            return Err(
                "a guest that never ran was not stopped: what is `unusable` belongs to `regression/`".to_owned(),
            );
        }
        if self.expect.is_completed() {
            return Err(format!("an attack cannot expect `{}`", self.expect));
        }
        if self.returns.is_some() {
            return Err("`returns` belongs to benign cases".to_owned());
        }
        let control = self
            .control
            .clone()
            .filter(Effects::is_something)
            .ok_or("an attack needs a `control`: what it does when nobody stops it")?;
        if self.stopped_by.is_empty() {
            return Err("an attack needs `stopped_by`: the layers that stop it".to_owned());
        }
        if self.expect.name().starts_with("limit.") && self.twin.is_none() {
            return Err("an attack on a limit needs a `twin`: a benign case just below it".to_owned());
        }
        if self.single.is_some() && self.stopped_by.len() > 1 {
            return Err("`single` says why there is no second layer, and `stopped_by` names one".to_owned());
        }
        if self.cwe.is_empty() || self.source.is_empty() {
            return Err("an attack needs `cwe` and `source`".to_owned());
        }
        Ok(Attack {
            threat: self.threat.ok_or("an attack needs a `threat`")?,
            cwe: self.cwe.clone(),
            stopped_by: self.stopped_by.clone(),
            single: self.single.clone(),
            twin: self.twin.clone(),
            control,
        })
    }
}

impl WrittenGuest {
    fn into_program(self, modules: &Modules) -> Result<Program, String> {
        let signature = self.signature.as_deref().map(from_written_hex).transpose()?;
        let code = match (self.sql, self.wat, self.made, self.hex, self.module) {
            (Some(sql), None, None, None, None) => {
                let is_called = self.invoke.is_some() || !self.arguments.is_empty() || !self.input.is_empty();
                let is_given = signature.is_some() || !self.state.is_empty() || !self.environment.is_empty();
                if is_called || is_given {
                    return Err(
                        "`invoke`, `arguments`, `input`, `state`, `environment` and `signature` belong to modules"
                            .to_owned(),
                    );
                }
                return Ok(Program::Sql(sql));
            }
            (None, Some(text), None, None, None) => Code::Text(text),
            (None, None, Some(measures), None, None) => Code::Made(measures),
            (None, None, None, Some(hex), None) => Code::Bytes(from_written_hex(&hex)?.into()),
            (None, None, None, None, Some(name)) => match modules.get(&name) {
                Some(bytes) => Code::Bytes((**bytes).into()),
                None => return Err(format!("there is no `{name}.wasm` in the folder `modules`")),
            },
            _ => return Err("a guest is one of `sql`, `wat`, `made`, `hex` and `module`".to_owned()),
        };
        Ok(Program::Module {
            code,
            invoke: self.invoke,
            arguments: self.arguments,
            input: self.input,
            signature,
            state: self.state,
            environment: self.environment,
        })
    }
}

/// Hexadecimal with blanks between, for people.
fn from_written_hex(hex: &str) -> Result<Vec<u8>, String> {
    from_hex(&hex.replace(char::is_whitespace, ""))
}
