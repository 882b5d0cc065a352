//! Makes a page of a text with marks in it.

use pulldown_cmark::{Parser, html};
use stockade_kernels::{kernel, words};

fn work(turn: u32) -> u64 {
    let mut text = format!("# Page {turn}\n\n");
    for (index, line) in words(4000).lines().enumerate() {
        match index % 5 {
            0 => text.push_str(&format!("\n## {line}\n\n")),
            1 => text.push_str(&format!("* *{line}* and `{index}`\n")),
            2 => text.push_str(&format!("\n> {line} [link](https://example.org/{index})\n")),
            3 => text.push_str(&format!("\n    {line}\n")),
            _ => text.push_str(&format!("\n{line} & **{line}** <b>\n")),
        }
    }
    let mut page = String::new();
    html::push_html(&mut page, Parser::new(&text));
    page.len() as u64
}

kernel!(work);
