//! `policyctl run`

mod answer;

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use stockade_runtime::worker::{Pool, PoolOptions};
use stockade_runtime::{Guest, Layer, ModuleCache, Request, Runtime, RuntimeError, StateFile};

use crate::arguments::{Format, Policies};
use crate::exit::{Exit, Failure};
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
        Format::Json => writeln!(
            io::stdout(),
            "{}",
            answer::all_as_json(&arguments.guests, &outcomes, last)
        )?,
        Format::Human => {
            answer::show(&arguments.guests, &outcomes, last)?;
            if !arguments.in_process {
                answer::show_absent(last)?;
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
            Guest::Wasm(bytes.into())
        } else {
            Guest::Sql(bytes)
        });
    }
    match path.extension().and_then(|kind| kind.to_str()) {
        Some("sql") => Ok(Guest::Sql(bytes)),
        Some("wasm" | "wat") => Ok(Guest::Wasm(bytes.into())),
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
