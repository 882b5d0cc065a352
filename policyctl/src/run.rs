//! `policyctl run`

use std::env;
use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Map, Value, json};
use stockade_runtime::worker::{Pool, PoolOptions};
use stockade_runtime::{
    Guest, Layer, ModuleCache, Outcome, Request, Runtime, RuntimeError, SqlValue, StateChanges, StateFile,
    StatementResult, WasmValue,
};

use crate::arguments::{Format, Policies};
use crate::exit::{Exit, Failure};
use crate::guest_text::{harmless, one_line};
use crate::sources;

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The guest: a `.sql`, `.wasm` or `.wat` file, or `-` for standard input. Several modules are a chain: each takes what
    /// the one before hands over
    #[arg(required = true, value_name = "GUEST")]
    pub guests: Vec<PathBuf>,
    /// The profile whose member the guest is
    #[arg(long, default_value = "untrusted")]
    pub profile: String,
    #[command(flatten)]
    pub policies: Policies,
    /// The database that SQL runs on; without it, an empty one in memory
    #[arg(long, value_name = "PATH")]
    pub db: Option<PathBuf>,
    /// The export to call; without it, `run` or `_start`
    #[arg(long, value_name = "EXPORT")]
    pub invoke: Option<String>,
    /// An argument of the export, a number; once for each
    #[arg(long = "arg", value_name = "VALUE", allow_hyphen_values = true)]
    pub arguments: Vec<String>,
    /// Input for a module that exports `input_ptr`: a file, or `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// A publisher's signature of the module, as `openssl pkeyutl -sign` writes it; once for each module of a chain
    #[arg(long = "signature", value_name = "FILE")]
    pub signatures: Vec<PathBuf>,
    /// A namespace of keys and values for the module, and the file that it is in; made where it is not there
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// The name by which policies know the namespace
    #[arg(long, value_name = "NAME", default_value = "main", requires = "state")]
    pub namespace: String,
    /// A variable that the module may ask for, once for each: with a value, or with the one that it has here
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    pub environment: Vec<String>,
    /// Keep compiled modules in a folder of your own, and load those that are there
    #[arg(long, value_name = "FOLDER")]
    pub module_cache: Option<PathBuf>,
    /// Run in this process instead of a worker: no hard deadline, no heap limit, no crash containment
    #[arg(long)]
    pub in_process: bool,
    /// Run although this machine or this build has not got a layer; once for each
    #[arg(long, value_name = "LAYER", value_parser = ["build", "landlock", "seccomp"], conflicts_with = "in_process")]
    pub do_without: Vec<String>,
    /// How to answer
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

/// The largest guest or input that is read at all, in bytes. What a profile allows is far below it.
const LARGEST: u64 = 256 << 20;

/// The most that a module cache takes on disk, in bytes.
const MODULE_CACHE: u64 = 256 << 20;

/// Runs one guest, or a chain.
pub(crate) fn run(arguments: &Run) -> Result<Exit, Failure> {
    let mut requests = requests(arguments)?;
    // Locked until what the guest changed is in it: two runs of one namespace come one after the other.
    let mut kept = match &arguments.state {
        Some(path) => Some(StateFile::open(path, &arguments.namespace)?),
        None => None,
    };
    if let (Some(kept), [request]) = (&kept, requests.as_mut_slice()) {
        request.state = kept.state().clone();
    }
    let policies = sources::load(&arguments.policies)?;
    let cache = match &arguments.module_cache {
        Some(folder) => Some(Arc::new(ModuleCache::open(folder, MODULE_CACHE)?)),
        None => None,
    };
    let mut runtime = if arguments.in_process {
        Runtime::in_process(policies)
    } else {
        Runtime::in_pool(policies, Arc::new(pool(arguments)?))
    };
    if let Some(cache) = &cache {
        runtime = runtime.with_module_cache(Arc::clone(cache));
    }
    let outcomes = match requests.as_slice() {
        [guest] => vec![runtime.run(guest)?],
        chain => runtime.run_chain(chain)?,
    };
    let last = outcomes.last().ok_or_else(|| Failure::new("nothing ran"))?;
    if let Some(kept) = &mut kept {
        kept.apply(&last.product.state)?;
    }
    match arguments.format {
        Format::Json => writeln!(io::stdout(), "{}", all_as_json(&arguments.guests, &outcomes, last))?,
        Format::Human => {
            show(&arguments.guests, &outcomes, last)?;
            if !arguments.in_process {
                show_absent(last)?;
            }
            if let Some(used) = last.module_cache {
                writeln!(io::stderr(), "module cache: {used}")?;
            }
        }
    }
    if let Some(trouble) = cache.as_ref().and_then(|cache| cache.trouble()) {
        writeln!(io::stderr(), "module cache: not used to the full: {trouble}")?;
    }
    Ok(if last.class.is_completed() {
        Exit::Clean
    } else {
        Exit::Findings
    })
}

fn pool(arguments: &Run) -> Result<Pool, Failure> {
    let named = |layer: &&Layer| arguments.do_without.iter().any(|name| name == layer.name());
    let options = PoolOptions {
        spare: 0,
        do_without: Layer::ALL.iter().filter(named).copied().collect(),
        ..PoolOptions::default()
    };
    Pool::with(options).map_err(|error| match error {
        RuntimeError::Absent { layer, .. } => Failure::new(format!("{error}; or run with `--do-without {layer}`")),
        error => error.into(),
    })
}

/// What the caller agreed to must not be forgotten.
fn show_absent(outcome: &Outcome) -> io::Result<()> {
    let names: Vec<String> = outcome.absent.iter().map(|layer| format!("`{layer}`")).collect();
    if names.is_empty() {
        return Ok(());
    }
    writeln!(io::stderr(), "it ran without {}", names.join(", "))
}

/// One for each guest, in order; the input is the first one's.
fn requests(arguments: &Run) -> Result<Vec<Request>, Failure> {
    check_standard_input(arguments)?;
    if ![0, arguments.guests.len()].contains(&arguments.signatures.len()) {
        return Err(Failure::new(format!(
            "{} guests and {} signatures: give one for each, or none",
            arguments.guests.len(),
            arguments.signatures.len()
        )));
    }
    let mut requests = Vec::with_capacity(arguments.guests.len());
    for (number, path) in arguments.guests.iter().enumerate() {
        let mut request = request(path, arguments)?;
        if let Some(signature) = arguments.signatures.get(number) {
            request.signature = Some(read(signature, "signature")?);
        }
        if let Some(input) = arguments.input.as_ref().filter(|_| number == 0) {
            request.input = read(input, "input")?;
        }
        requests.push(request);
    }
    Ok(requests)
}

/// It can be read once.
fn check_standard_input(arguments: &Run) -> Result<(), Failure> {
    let is_stdin = |path: &&PathBuf| path.as_path() == Path::new("-");
    if arguments.signatures.iter().any(|path| is_stdin(&path)) {
        return Err(Failure::new("a signature comes from a file, not from standard input"));
    }
    if arguments.guests.iter().chain(&arguments.input).filter(is_stdin).count() > 1 {
        let reason = if arguments.guests.len() == 1 {
            "the guest and its input cannot both come from standard input"
        } else {
            "only one guest, or the input, can come from standard input"
        };
        return Err(Failure::new(reason));
    }
    Ok(())
}

fn request(path: &Path, arguments: &Run) -> Result<Request, Failure> {
    let bytes = read(path, "guest")?;
    if bytes.is_empty() {
        return Err(Failure::new(format!("guest `{}` is empty", path.display())));
    }
    let profile = arguments.profile.clone();
    let mut request = match guest(path, bytes)? {
        Guest::Sql(script) => Request::sql(profile, script),
        Guest::Wasm(module) => Request::wasm(profile, module),
    };
    check_fit(&request, arguments)?;
    request.database.clone_from(&arguments.db);
    request.invoke.clone_from(&arguments.invoke);
    request.arguments.clone_from(&arguments.arguments);
    request.environment = arguments
        .environment
        .iter()
        .map(|variable| environment(variable))
        .collect::<Result<_, _>>()?;
    Ok(request)
}

/// A variable as it was asked for. Nothing is taken from here that was not named.
fn environment(variable: &str) -> Result<(String, String), Failure> {
    let (name, value) = match variable.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (variable, None),
    };
    if name.is_empty() {
        return Err(Failure::new(
            "a variable has a name: `--env NAME` or `--env NAME=VALUE`",
        ));
    }
    let value = match value {
        Some(value) => value,
        None => env::var(name).map_err(|error| Failure::new(format!("cannot give variable `{name}`: {error}")))?,
    };
    Ok((name.to_owned(), value))
}

fn check_fit(request: &Request, arguments: &Run) -> Result<(), Failure> {
    let names_export = arguments.invoke.is_some() || !arguments.arguments.is_empty();
    let is_given = !arguments.signatures.is_empty() || arguments.state.is_some() || !arguments.environment.is_empty();
    let for_modules = names_export || arguments.input.is_some() || is_given;
    if matches!(request.guest, Guest::Sql(_)) && for_modules {
        return Err(Failure::new(
            "`--invoke`, `--arg`, `--input`, `--state`, `--env` and `--signature` are for WebAssembly guests, and this is SQL",
        ));
    }
    if arguments.guests.len() == 1 {
        return Ok(());
    }
    if names_export {
        return Err(Failure::new(
            "`--invoke` and `--arg` are for one module: the modules of a chain follow the input/output contract",
        ));
    }
    if arguments.state.is_some() {
        return Err(Failure::new(
            "`--state` is for one module: those of a chain hand over bytes",
        ));
    }
    Ok(())
}

fn guest(path: &Path, bytes: Vec<u8>) -> Result<Guest, Failure> {
    if path == Path::new("-") {
        let is_module = bytes.starts_with(b"\0asm") || bytes.trim_ascii_start().starts_with(b"(module");
        return Ok(if is_module {
            Guest::Wasm(bytes)
        } else {
            Guest::Sql(bytes)
        });
    }
    match path.extension().and_then(|kind| kind.to_str()) {
        Some("sql") => Ok(Guest::Sql(bytes)),
        Some("wasm" | "wat") => Ok(Guest::Wasm(bytes)),
        _ => Err(Failure::new(format!(
            "cannot tell what `{}` is: name it `.sql`, `.wasm` or `.wat`, or hand it over on standard input as `-`",
            path.display()
        ))),
    }
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    let cannot = |error: io::Error| Failure::new(format!("cannot read {what} `{}`: {error}", path.display()));
    let from: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else if path.is_dir() {
        return Err(Failure::new(format!("{what} `{}` is a folder", path.display())));
    } else {
        Box::new(fs::File::open(path).map_err(cannot)?)
    };
    let mut bytes = Vec::new();
    from.take(LARGEST + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Failure::new(format!(
            "{what} `{}` is larger than {} MiB",
            path.display(),
            LARGEST >> 20
        )));
    }
    Ok(bytes)
}

/// What the last guest handed over on standard output, what became of each on standard error.
fn show(guests: &[PathBuf], outcomes: &[Outcome], last: &Outcome) -> Result<(), Failure> {
    for line in outcomes.iter().flat_map(|outcome| &outcome.product.log) {
        writeln!(io::stderr(), "guest: {}", one_line(line))?;
    }
    for (name, sum) in outcomes.iter().flat_map(|outcome| &outcome.product.metrics) {
        writeln!(io::stderr(), "metric: {name} {sum}")?;
    }
    show_product(last)?;
    if guests.len() == 1 {
        writeln!(io::stderr(), "{}", verdict(last))?;
        return Ok(());
    }
    for (guest, outcome) in guests.iter().zip(outcomes) {
        writeln!(io::stderr(), "{}: {}", guest.display(), verdict(outcome))?;
    }
    Ok(())
}

fn show_product(outcome: &Outcome) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for statement in &outcome.product.statements {
        show_rows(&mut out, statement)?;
    }
    if outcome.product.output.is_empty() {
        for result in &outcome.product.results {
            writeln!(out, "{}", wasm_text(*result))?;
        }
    } else if io::stdout().is_terminal() {
        writeln!(out, "{}", harmless(&String::from_utf8_lossy(&outcome.product.output)))?;
    } else {
        out.write_all(&outcome.product.output)?;
    }
    out.flush()?;
    Ok(())
}

fn show_rows(out: &mut impl Write, statement: &StatementResult) -> io::Result<()> {
    if statement.columns.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = statement.columns.iter().map(|name| one_line(name)).collect();
    writeln!(out, "{}", names.join("\t"))?;
    for row in &statement.rows {
        let cells: Vec<String> = row.iter().map(sql_text).collect();
        writeln!(out, "{}", cells.join("\t"))?;
    }
    Ok(())
}

fn verdict(outcome: &Outcome) -> String {
    let took = format!("{}.{:01} ms", outcome.wall_us / 1000, outcome.wall_us % 1000 / 100);
    let by = outcome.layer.map_or(String::new(), |layer| format!(" by `{layer}`"));
    let detail = if outcome.detail.is_empty() {
        String::new()
    } else {
        format!(": {}", one_line(&outcome.detail))
    };
    format!("{}{by} after {took}{detail}", outcome.class)
}

fn sql_text(value: &SqlValue) -> String {
    match value {
        SqlValue::Null => "NULL".to_owned(),
        SqlValue::Integer(number) => number.to_string(),
        SqlValue::Real(number) => number.to_string(),
        SqlValue::Text(text) => one_line(text),
        SqlValue::Blob(bytes) => format!("x'{}'", hexadecimal(bytes)),
    }
}

fn wasm_text(value: WasmValue) -> String {
    match value {
        WasmValue::I32(number) => number.to_string(),
        WasmValue::I64(number) => number.to_string(),
        WasmValue::F32(number) => number.to_string(),
        WasmValue::F64(number) => number.to_string(),
        WasmValue::Opaque => "(not a number)".to_owned(),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The one object of `--format json`: the last guest's, and of a chain every module's in it.
fn all_as_json(guests: &[PathBuf], outcomes: &[Outcome], last: &Outcome) -> Value {
    let mut object = as_json(last);
    if guests.len() > 1 {
        let modules = guests.iter().zip(outcomes).map(|(guest, outcome)| {
            let name = guest.display().to_string();
            with(as_json(outcome), "guest", name.into())
        });
        object = with(object, "modules", modules.collect());
    }
    object
}

/// An object with one key more.
fn with(mut object: Value, key: &str, value: Value) -> Value {
    if let Some(entries) = object.as_object_mut() {
        entries.insert(key.to_owned(), value);
    }
    object
}

/// The object of one guest. Its shape is documented and stable.
fn as_json(outcome: &Outcome) -> Value {
    let product = &outcome.product;
    let last = product
        .statements
        .iter()
        .rev()
        .find(|statement| !statement.columns.is_empty());
    json!({
        "outcome": outcome.class,
        "layer": outcome.layer,
        "detail": outcome.detail,
        "wall_ms": micros_as_millis(outcome.wall_us),
        "peak_rss_bytes": outcome.peak_rss_bytes,
        "columns": last.map(|statement| &statement.columns),
        "rows": last.map(json_rows),
        "statements": product.statements.iter().map(json_statement).collect::<Vec<_>>(),
        "results": product.results.iter().map(json_result).collect::<Vec<_>>(),
        "output": String::from_utf8(product.output.clone()).ok(),
        "output_hex": (String::from_utf8(product.output.clone()).is_err()).then(|| hexadecimal(&product.output)),
        "log": product.log,
        "metrics": product.metrics,
        "state": json_state(&product.state),
        "absent": outcome.absent.iter().collect::<Vec<_>>(),
        "module_cache": outcome.module_cache,
        "trail": outcome.trail.events(),
        "trail_dropped": outcome.trail.dropped(),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a run is far shorter than 285 years")]
fn micros_as_millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

fn json_statement(statement: &StatementResult) -> Value {
    json!({ "columns": statement.columns, "row_count": statement.rows.len(), "changes": statement.changes })
}

fn json_rows(statement: &StatementResult) -> Vec<Vec<Value>> {
    statement
        .rows
        .iter()
        .map(|row| row.iter().map(json_cell).collect())
        .collect()
}

/// JSON has no bytes and no infinities: those are objects and strings, never a lookalike.
fn json_cell(value: &SqlValue) -> Value {
    match value {
        SqlValue::Null => Value::Null,
        SqlValue::Integer(number) => json!(number),
        SqlValue::Real(number) if number.is_finite() => json!(number),
        SqlValue::Real(number) => json!({ "real": number.to_string() }),
        SqlValue::Text(text) => json!(text),
        SqlValue::Blob(bytes) => json!({ "blob": hexadecimal(bytes) }),
    }
}

/// Each key that was changed: text, bytes as a cell has them, or `null` where it was removed.
fn json_state(changes: &StateChanges) -> Map<String, Value> {
    let json = |value: &[u8]| match std::str::from_utf8(value) {
        Ok(text) => json!(text),
        Err(_) => json!({ "blob": hexadecimal(value) }),
    };
    changes
        .iter()
        .map(|(key, change)| (key.to_owned(), change.map_or(Value::Null, json)))
        .collect()
}

fn json_result(value: &WasmValue) -> Value {
    match *value {
        WasmValue::I32(number) => json!(number),
        WasmValue::I64(number) => json!(number),
        WasmValue::F32(number) if number.is_finite() => json!(number),
        WasmValue::F64(number) if number.is_finite() => json!(number),
        other => json!(wasm_text(other)),
    }
}
