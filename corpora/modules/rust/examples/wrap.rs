//! Text in lines of at most forty columns.

use stockade_honest_modules::program;

fn wrapped(text: &str) -> String {
    textwrap::fill(text, 40)
}

program!(wrapped);
