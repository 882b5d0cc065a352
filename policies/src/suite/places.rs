//! Where the items of a YAML file stand; its parser does not say.

use crate::finding::Location;

/// A test file's name and text, to find places in.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
}

/// Some of the file's lines: an item and everything in it.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    file: Text<'a>,
    offset: usize,
    text: &'a str,
}

impl<'a> Text<'a> {
    /// A line, from 1.
    pub(super) fn line(self, line: usize) -> Location {
        let before: usize = self
            .text
            .split_inclusive('\n')
            .take(line.saturating_sub(1))
            .map(str::len)
            .sum();
        self.whole().cut(before, self.text.len()).location()
    }

    /// The pieces of a list under a key of the file. A list that is not written item by item is one piece for all.
    pub(super) fn items(self, key: &str, count: usize) -> Vec<Piece<'a>> {
        self.whole().items(key, count)
    }

    fn whole(self) -> Piece<'a> {
        Piece {
            file: self,
            offset: 0,
            text: self.text,
        }
    }
}

impl<'a> Piece<'a> {
    /// Its first line, without what only indents it.
    pub(super) fn location(self) -> Location {
        let trimmed = self.text.trim_start_matches([' ', '-', '\n', '\r']);
        let offset = self.offset + self.text.len() - trimmed.len();
        let length = trimmed.lines().next().map_or(0, str::len);
        Location::new(self.file.name, self.file.text, offset, length)
    }

    /// Where a word first stands in it, by itself; the piece where it does not.
    pub(super) fn find(self, word: &str) -> Location {
        let is_part = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        let alone = self.text.match_indices(word).find(|(at, _)| {
            let before = self.text.get(..*at).and_then(|text| text.chars().next_back());
            let after = self.text.get(at + word.len()..).and_then(|text| text.chars().next());
            !before.is_some_and(is_part) && !after.is_some_and(is_part)
        });
        match alone {
            Some((at, _)) if !word.is_empty() => {
                Location::new(self.file.name, self.file.text, self.offset + at, word.len())
            }
            _ => self.location(),
        }
    }

    /// The pieces of the list under a key of this piece.
    pub(super) fn items(self, key: &str, count: usize) -> Vec<Self> {
        let Some(list) = self.under(key) else {
            return vec![self; count];
        };
        // The key's own line may begin an item of the list around it.
        let indent = list.text.lines().skip(1).find_map(dash_indent);
        let starts: Vec<usize> = list
            .lines()
            .skip(1)
            .filter(|(_, line)| indent.is_some() && dash_indent(line) == indent)
            .map(|(at, _)| at)
            .collect();
        if starts.len() != count {
            return vec![list; count];
        }
        let ends = starts.iter().skip(1).copied().chain([list.text.len()]);
        starts
            .iter()
            .zip(ends)
            .map(|(start, end)| list.cut(*start, end))
            .collect()
    }

    /// What stands below `key:`, up to the next line that is indented no deeper.
    fn under(self, key: &str) -> Option<Self> {
        let (at, line) = self.lines().find(|(_, line)| {
            let rest = line.trim_start_matches([' ', '-']);
            rest.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'))
        })?;
        let depth = line.len() - line.trim_start_matches([' ', '-']).len();
        let end = self
            .lines()
            .skip_while(|(start, _)| *start <= at)
            .find(|(_, line)| {
                let trimmed = line.trim_start();
                let indent = line.len() - trimmed.len();
                let is_text = !trimmed.is_empty() && !trimmed.starts_with('#');
                // A list may stand as deep as its key.
                is_text && (indent < depth || (indent == depth && dash_indent(line).is_none()))
            })
            .map_or(self.text.len(), |(start, _)| start);
        Some(self.cut(at, end))
    }

    fn cut(self, from: usize, to: usize) -> Self {
        Self {
            offset: self.offset + from,
            text: self.text.get(from..to).unwrap_or_default(),
            ..self
        }
    }

    fn lines(self) -> impl Iterator<Item = (usize, &'a str)> {
        let mut offset = 0;
        self.text.split_inclusive('\n').map(move |line| {
            let at = offset;
            offset += line.len();
            (at, line.trim_end())
        })
    }
}

/// How deep a line that begins an item is indented.
fn dash_indent(line: &str) -> Option<usize> {
    let trimmed = line.trim_start_matches(' ');
    let is_item = trimmed.trim_end() == "-" || trimmed.starts_with("- ");
    is_item.then(|| line.len() - trimmed.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# - not an item
bounds:
- principals: a
requests:
  # the first
  - name: one
    by: [x]

  - {name: two,
     by: [y]}
tables:
  - allow:
      - {actions: read}
      - actions: select
    deny: [{actions: insert}, {actions: delete}]
";

    fn lines(pieces: &[Piece<'_>]) -> Vec<usize> {
        pieces.iter().map(|piece| piece.location().line).collect()
    }

    #[test]
    fn items_stand_where_they_begin() {
        let file = Text { name: "a", text: TEXT };
        assert_eq!(lines(&file.items("requests", 2)), [6, 9]);
        assert_eq!(lines(&file.items("bounds", 1)), [3]);
        let tables = file.items("tables", 1);
        assert_eq!(lines(&tables), [12]);
        let allow = tables.first().map(|table| table.items("allow", 2));
        assert_eq!(lines(&allow.unwrap_or_default()), [13, 14]);
    }

    #[test]
    fn a_list_on_one_line_is_one_place() {
        let file = Text { name: "a", text: TEXT };
        let deny = file.items("tables", 1).first().map(|table| table.items("deny", 2));
        assert_eq!(lines(&deny.unwrap_or_default()), [15, 15]);
        assert_eq!(lines(&file.items("gone", 1)), [1]);
    }

    #[test]
    fn a_word_is_found_by_itself() {
        let file = Text {
            name: "a",
            text: "requests:\n  - name: reader\n    action: read\n",
        };
        let found = file.items("requests", 1).first().map(|item| item.find("read"));
        assert_eq!(found.map(|at| (at.line, at.column)), Some((3, 13)));
    }
}
