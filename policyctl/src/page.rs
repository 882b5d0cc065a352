//! Pages that need nothing else and run nothing: there is no script for a stranger's text to get into.

use std::fmt::{self, Display, Write};

use crate::guest_text::one_line;

const STYLE: &str = include_str!("page.css");

/// What a page may load: nothing. It may style itself.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Text of whoever's making, as HTML shows it. Good in an attribute too.
pub(crate) struct Text<'a>(pub &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in one_line(self.0).chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Everything before what a page says; `style` is what it has beyond the style of all pages.
pub(crate) fn begin(page: &mut String, title: &str, style: impl Display) -> fmt::Result {
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <title>Stockade: {}</title>\n<style>\n{STYLE}{style}</style>\n</head>\n<body>\n",
        Text(title)
    )
}

/// Everything after it.
pub(crate) fn end(page: &mut String) {
    page.push_str("</body>\n</html>\n");
}
