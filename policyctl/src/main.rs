//! Stockade's command line: check policies, run a guest, replay the attacks, explain a decision, try the layers.

mod arguments;
mod check;
mod claim;
mod completions;
mod diff;
mod exit;
mod explain;
mod findings;
mod fmt;
mod github;
mod guest_text;
mod init;
mod journal;
mod layers;
mod mutate;
mod overhead;
mod page;
mod prove;
mod replay;
mod report;
mod run;
mod sarif;
mod scoreboard;
mod sources;
mod test;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use exit::Exit;

fn main() -> ExitCode {
    stockade_conformance::enter();
    let answer = match Arguments::parse().command {
        Command::Check(arguments) => check::check(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Replay(arguments) => replay::replay(&arguments),
        Command::Report(arguments) => report::report(&arguments),
        Command::Claim(arguments) => claim::claim(&arguments),
        Command::VerifyClaim(arguments) => claim::verify(&arguments),
        Command::Scoreboard(arguments) => scoreboard::scoreboard(&arguments),
        Command::Overhead(arguments) => overhead::overhead(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Diff(arguments) => diff::diff(&arguments),
        Command::Fmt(arguments) => fmt::fmt(&arguments),
        Command::Init(arguments) => init::init(&arguments),
        Command::Completions(arguments) => completions::completions(&arguments),
        Command::Test(arguments) => test::test(&arguments),
        Command::Mutate(arguments) => mutate::mutate(&arguments),
        Command::Prove(arguments) => prove::prove(&arguments),
        Command::Layers(arguments) => layers::show(&arguments),
    };
    let exit = answer.unwrap_or_else(|failure| {
        failure.tell();
        Exit::NoAnswer
    });
    exit.into()
}
