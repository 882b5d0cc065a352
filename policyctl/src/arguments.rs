//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Fences untrusted WebAssembly modules and SQL with Cedar policies, and proves by attack that the fence holds.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 clean or completed, 1 findings, refused or failed, 2 could not answer.
Data goes to standard output, everything else to standard error. NO_COLOR is obeyed.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check policy files: syntax, schema, and that every limit is a number that can fire
    #[command(after_help = "\
Examples:
  policyctl check grants.cedar
  policyctl check --format json policies/ | jq .findings")]
    Check(Check),
    /// Run one guest as a member of a profile
    #[command(after_help = "\
Examples:
  policyctl run --profile walkin report.sql
  policyctl run --profile reports --policy grants.cedar --db sales.db report.sql
  echo 'select 6 * 7' | policyctl run --format json -
  policyctl run --profile pure --input page.md render.wasm")]
    Run(Run),
    /// Replay attacks and honest guests, and say which were stopped
    #[command(after_help = "\
Examples:
  policyctl replay                              the whole corpus
  policyctl replay sql/attach-reads-host-file   one case
  policyctl replay --prove corpora/sql          files on disk, each layer alone and missing
  policyctl replay --subject undefended         the same attacks with no fence")]
    Replay(Replay),
    /// Say which policy decides, where it stands, and which layer enforces it
    #[command(after_help = "\
Examples:
  policyctl explain sql/attach-reads-host-file
  policyctl explain --profile walkin --action attach --resource 'Path::\"/etc/passwd\"'
  policyctl explain --profile walkin --action elapse")]
    Explain(Explain),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Human,
    /// For programs: one JSON object
    Json,
}

/// Policies beyond the stock profiles.
#[derive(Debug, Args)]
pub(crate) struct Policies {
    /// Policies (`.cedar`) or entities (`.json`) to add, once for each; `NAME.entities.json` beside `NAME.cedar` is read too
    #[arg(long = "policy", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Leave the stock profiles out
    #[arg(long)]
    pub no_stock: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Policy files (`.cedar`), entity files (`.json`), folders of them, or `-` for policies on standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Leave the stock profiles out
    #[arg(long)]
    pub no_stock: bool,
    /// Show every profile, not only those that the files declare or change
    #[arg(long)]
    pub all: bool,
    /// How to answer
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The guest: a `.sql`, `.wasm` or `.wat` file, or `-` for standard input
    pub guest: PathBuf,
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
    /// Run in this process instead of a worker: no hard deadline, no heap limit, no crash containment
    #[arg(long)]
    pub in_process: bool,
    /// How to answer
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SubjectName {
    /// The runtime as users run it; each attack is also run undefended, to see that its harm is real
    Reference,
    /// No fence at all
    Undefended,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Cases or folders of the corpus, or files and folders on disk; without any, the whole corpus in this program
    #[arg(value_name = "CASE|DIR")]
    pub cases: Vec<String>,
    /// Who is put to the test
    #[arg(long, value_enum, default_value = "reference")]
    pub subject: SubjectName,
    /// Also run each attack with each of its layers alone, and with all of them missing
    #[arg(long, conflicts_with = "subject")]
    pub prove: bool,
    /// Cases played at a time
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// How to answer
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

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
