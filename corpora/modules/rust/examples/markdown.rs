//! Markdown as HTML.

use pulldown_cmark::{Options, Parser, html};
use stockade_honest_modules::program;

fn rendered(text: &str) -> String {
    let mut page = String::new();
    html::push_html(&mut page, Parser::new_ext(text, Options::ENABLE_TABLES));
    page
}

program!(rendered);
