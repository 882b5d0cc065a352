//! Findings as GitHub's workflow commands: each becomes an annotation at its line.
//!
//! <https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions>

use stockade_policies::{Finding, Severity};

use crate::guest_text::one_line;

/// One line for each finding.
pub(crate) fn commands(findings: &[Finding]) -> String {
    findings.iter().map(|finding| command(finding) + "\n").collect()
}

fn command(finding: &Finding) -> String {
    let level = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let place = finding.location.as_ref().map_or(String::new(), |at| {
        format!("file={},line={},col={},", property(&at.source), at.line, at.column)
    });
    let help = finding
        .help
        .as_ref()
        .map_or(String::new(), |help| format!("\nhelp: {}", one_line(help)));
    let message = data(&format!("{}{help}", one_line(&finding.message)));
    format!("::{level} {place}title={}::{message}", property(finding.code.name()))
}

/// What stands behind the `::`, on one line.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// What stands behind a `=`: a comma ends a property and a colon the properties.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_ends_a_command_or_a_property() {
        assert_eq!(data("100%\r\n::error::x"), "100%25%0D%0A::error::x");
        assert_eq!(property("a:b,c%\n.cedar"), "a%3Ab%2Cc%25%0A.cedar");
    }
}
