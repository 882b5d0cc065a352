//! The commands; what each takes is declared beside what it does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::check::Check;
use crate::claim::{MakeClaim, VerifyClaim};
use crate::completions::Completions;
use crate::diff::Diff;
use crate::explain::Explain;
use crate::fmt::Fmt;
use crate::init::Init;
use crate::layers::Show;
use crate::mutate::Mutate;
use crate::overhead::ShowOverhead;
use crate::prove::Prove;
use crate::replay::Replay;
use crate::report::ShowReport;
use crate::run::Run;
use crate::scoreboard::Scoreboard;
use crate::test::Test;

/// Fences untrusted WebAssembly modules and SQL with Cedar policies, and proves by attack that the fence holds.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 clean or completed, 1 errors found, refused or failed, 2 could not answer.
Data goes to standard output, everything else to standard error. NO_COLOR is obeyed.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check policy files: syntax, schema, that every limit can fire, and what is hardly what was meant
    #[command(after_help = "\
Examples:
  policyctl check grants.cedar
  policyctl check --deny warnings --format github policies/
  policyctl check --format json policies/ | jq .findings
  policyctl check --explain redundant-policy

Exit codes: 0 no errors, 1 errors, or warnings with `--deny warnings`, 2 could not answer. Notes never fail.
A policy allows a warning by saying why: @allow(\"unscoped-permit: every guest may log\")")]
    Check(Check),
    /// Run one guest as a member of a profile, or a chain of modules
    #[command(after_help = "\
Examples:
  policyctl run --profile walkin report.sql
  policyctl run --profile reports --policy grants.cedar --db sales.db report.sql
  echo 'select 6 * 7' | policyctl run --format json -
  policyctl run --profile pure --input page.md render.wasm
  policyctl run --profile pure --input page.md render.wasm minify.wasm")]
    Run(Run),
    /// Say which policy decides, where it stands, and which layer enforces it
    #[command(after_help = "\
Examples:
  policyctl explain sql/attach-reads-host-file
  policyctl explain --profile walkin --action attach --resource 'Path::\"/etc/passwd\"'
  policyctl explain --profile walkin --action elapse")]
    Explain(Explain),
    /// Run the tests beside policies, and say what they have not seen
    #[command(after_help = "\
Examples:
  policyctl test                               this folder, or else the stock profiles
  policyctl test grants.tests.yaml             with grants.cedar and grants.entities.json beside it
  policyctl test --min-coverage 100 policies/
  policyctl test --format junit > report.xml
  policyctl test --watch --filter salary grants.cedar")]
    Test(Test),
    /// Make small mistakes in policies, and say which of them no test and no attack would notice
    #[command(after_help = "\
Examples:
  policyctl mutate grants.cedar                          judged by grants.tests.yaml beside it, and by the attacks
  policyctl mutate --no-corpus --min-score 90 policies/
  policyctl mutate --format json policies/ | jq '.mutants[] | select(.verdict.is == \"survived\")'")]
    Mutate(Mutate),
    /// Prove what shall hold of every request, with a solver
    #[command(after_help = "\
Examples:
  policyctl prove                               what is promised of the stock profiles
  policyctl prove grants.cedar                  that, and grants.properties.yaml
  policyctl prove --filter salary grants.cedar
  policyctl prove --list
The solver is cvc5, found in the PATH or named in the variable CVC5.")]
    Prove(Prove),
    /// Say what changed in effect between two policy sets: bounds, grants, and a question that is decided differently
    #[command(after_help = "\
Examples:
  policyctl diff old.cedar new.cedar
  policyctl diff --fail-on widening ../main/policies policies
  policyctl diff --format markdown old/ new/ >> \"$GITHUB_STEP_SUMMARY\"
  policyctl diff - grants.cedar < /dev/null        all that the file adds to the stock")]
    Diff(Diff),
    /// Lay policy files out as Cedar does
    #[command(after_help = "\
Examples:
  policyctl fmt grants.cedar
  policyctl fmt --check policies/
  policyctl fmt - < grants.cedar")]
    Fmt(Fmt),
    /// Write a starter: policies with tests, a CI workflow and a pre-commit hook
    #[command(after_help = "\
Examples:
  policyctl init
  policyctl init policies")]
    Init(Init),
    /// Replay attacks and honest guests, and say which were stopped
    #[command(after_help = "\
Examples:
  policyctl replay                              the whole corpus
  policyctl replay sql/attach-reads-host-file   one case
  policyctl replay --prove corpora/sql          files on disk, each layer alone and missing
  policyctl replay --variants 5 --seed 7 sql    each attack in SQL in five other wordings
  policyctl replay --shuffle 7 --times 2000     two thousand attacks in random order
  policyctl replay --subject undefended         the same attacks with no fence
  policyctl replay --subject ./adapter          another runtime, through its adapter")]
    Replay(Replay),
    /// Put the shards of a replay together, and show a replay's report in another form
    #[command(after_help = "\
Examples:
  policyctl report --format html replay.json > replay.html
  policyctl report shard-*.json
  policyctl report --format markdown shard-*.json >> \"$GITHUB_STEP_SUMMARY\"

Exit codes: 0 every verdict passed, 1 a verdict failed, 2 a case without a verdict, or files that are no reports or not of one replay.")]
    Report(ShowReport),
    /// Play the whole corpus in every way that proves it, and write down what can be claimed
    #[command(after_help = "\
Examples:
  policyctl claim > claim.json
  policyctl claim --without screen | jq .because

Exit codes: 0 conformant, 1 not, 2 could not answer. It takes some minutes.")]
    Claim(MakeClaim),
    /// Play again what a claim says, and compare
    #[command(after_help = "\
Examples:
  policyctl verify-claim claim.json

Exit codes: 0 it is as claimed, 1 it is not, 2 it cannot be verified: no claim, or another version or corpus.")]
    VerifyClaim(VerifyClaim),
    /// Put other runtimes to the test through their adapters, and show side by side where they stand
    #[command(after_help = "\
Examples:
  policyctl scoreboard --install                 every subject in conformance/subjects
  policyctl scoreboard --only apsw sql/attach-reads-host-file
  policyctl scoreboard --format json | jq '.scores[] | {subject, benign}'

Exit codes: 0 all as the expectations say, 1 otherwise, 2 could not answer. A subject that is not installed is absent, and named.")]
    Scoreboard(Scoreboard),
    /// Show what the fence costs beside what was promised of it, as the benchmarks measured it
    #[command(after_help = "\
Examples:
  policyctl overhead                                     the run whose figures the book has
  policyctl overhead target/bench/run/*.json             what `ci/bench` just measured
  policyctl overhead --format html > overhead.html       with charts
  policyctl overhead --format json | jq '.verdicts[] | select(.verdict == \"missed\")'

Exit codes: 0 every target is met, 1 a target is missed, 2 a target without a verdict: not measured, or nearer than the figure is sure.")]
    Overhead(ShowOverhead),
    /// Say which layers this machine and this build have, and try them
    #[command(after_help = "\
Examples:
  policyctl layers
  policyctl layers --format json | jq '.layers[] | select(.is_there | not)'")]
    Layers(Show),
    /// Print a shell's completions
    #[command(after_help = "\
Examples:
  policyctl completions bash > ~/.local/share/bash-completion/completions/policyctl
  policyctl completions zsh > ~/.zfunc/_policyctl
  policyctl completions fish > ~/.config/fish/completions/policyctl.fish")]
    Completions(Completions),
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
    /// Policies (`.cedar`), entities (`.json`), links (`.links.json`) or schemas (`.cedarschema`) to add, once for each; what lies beside `NAME.cedar` and belongs to it is read too
    #[arg(long = "policy", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Leave the stock profiles out
    #[arg(long)]
    pub no_stock: bool,
}
