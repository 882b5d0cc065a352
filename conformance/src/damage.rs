//! What is done to a fixture's file before a guest meets it: what a disk, a stranger or another process could have done.

use serde::Deserialize;

/// One thing done to a database file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub enum Damage {
    /// These bytes stand at this offset.
    Patch {
        /// From the start of the file.
        at: usize,
        /// What stands there.
        bytes: Vec<u8>,
    },
    /// Wherever these bytes stand, others of the same length do.
    Replace {
        /// What stood there.
        old: Vec<u8>,
        /// What stands there.
        new: Vec<u8>,
    },
    /// Only so many bytes are left.
    Keep(usize),
    /// Another process holds the file for itself while the guest runs.
    Held,
}

/// Damage as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    at: Option<usize>,
    hex: Option<String>,
    text: Option<String>,
    replace: Option<String>,
    with: Option<String>,
    keep: Option<usize>,
    #[serde(default)]
    held: bool,
}

impl TryFrom<Written> for Damage {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written {
                at: Some(at),
                hex: Some(hex),
                text: None,
                replace: None,
                with: None,
                keep: None,
                held: false,
            } => Ok(Self::Patch {
                at,
                bytes: from_hex(&hex)?,
            }),
            Written {
                at: Some(at),
                text: Some(text),
                hex: None,
                replace: None,
                with: None,
                keep: None,
                held: false,
            } => Ok(Self::Patch {
                at,
                bytes: text.into_bytes(),
            }),
            Written {
                replace: Some(old),
                with: Some(new),
                at: None,
                hex: None,
                text: None,
                keep: None,
                held: false,
            } => {
                if old.is_empty() || old.len() != new.len() {
                    return Err(format!("`{old}` and `{new}` must be of the same length, and not empty"));
                }
                Ok(Self::Replace {
                    old: old.into_bytes(),
                    new: new.into_bytes(),
                })
            }
            Written {
                keep: Some(length),
                at: None,
                hex: None,
                text: None,
                replace: None,
                with: None,
                held: false,
            } => Ok(Self::Keep(length)),
            Written {
                held: true,
                at: None,
                hex: None,
                text: None,
                replace: None,
                with: None,
                keep: None,
            } => Ok(Self::Held),
            _ => Err("write `at` with `hex` or `text`, `replace` with `with`, `keep`, or `held: true`".to_owned()),
        }
    }
}

impl Damage {
    /// The file's bytes with this done to them.
    pub(crate) fn done_to(&self, mut file: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Patch { at, bytes } => {
                if file.len() < at + bytes.len() {
                    file.resize(at + bytes.len(), 0);
                }
                file.splice(*at..at + bytes.len(), bytes.iter().copied());
                file
            }
            Self::Replace { old, new } => replaced(&file, old, new),
            Self::Keep(length) => {
                file.truncate(*length);
                file
            }
            Self::Held => file,
        }
    }
}

fn replaced(file: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut rest = file;
    let mut done = Vec::with_capacity(file.len());
    while let Some((first, after)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(old) {
            done.extend_from_slice(new);
            rest = behind;
        } else {
            done.push(*first);
            rest = after;
        }
    }
    done
}

pub(crate) fn from_hex(hex: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("`{hex}` is not hexadecimal: two digits for each byte");
    if hex.is_empty() || !hex.len().is_multiple_of(2) || !hex.is_ascii() {
        return Err(wrong());
    }
    let pairs = (0..hex.len()).step_by(2).map(|at| hex.get(at..at + 2));
    pairs
        .map(|pair| u8::from_str_radix(pair.unwrap_or_default(), 16).map_err(|_| wrong()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Damage, String> {
        serde_yaml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn each_kind_changes_what_it_says_and_nothing_else() {
        let file = b"abcdefab".to_vec();
        let cases: &[(&str, &[u8])] = &[
            ("{at: 1, hex: '00fF'}", b"a\x00\xffdefab"),
            ("{at: 7, text: xy}", b"abcdefaxy"),
            ("{replace: ab, with: ZZ}", b"ZZcdefZZ"),
            ("{keep: 3}", b"abc"),
            ("{keep: 0}", b""),
            ("{held: true}", b"abcdefab"),
        ];
        for (text, after) in cases {
            assert_eq!(parsed(text).unwrap().done_to(file.clone()), *after, "{text}");
        }
    }

    #[test]
    fn what_is_no_damage_is_told_how_to_be() {
        for (text, reason) in [
            ("{at: 1}", "`at` with `hex`"),
            ("{at: 1, hex: abc}", "not hexadecimal"),
            ("{at: 1, hex: zz}", "not hexadecimal"),
            ("{at: 1, hex: '00', keep: 3}", "write `at`"),
            ("{replace: ab, with: a}", "same length"),
            ("{}", "write `at`"),
            ("{cut: 1}", "unknown field"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
