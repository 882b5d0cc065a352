//! A compiled module as it stands in a file: a mark, what authenticates it, and what that is over.
//!
//! | bytes | what |
//! |---|---|
//! | 16 | the mark of this format |
//! | 32 | HMAC-SHA256 over all the rest, the mark too |
//! | 32 | the key by which it is found, so that one module's file is not taken for another's |
//! | 4 | how many bytes there are about the module, little-endian |
//! | | what there is to know about it |
//! | | its code |
//!
//! Nothing but the mark is read before the HMAC is right.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::Key;

const MARK: &[u8; 16] = b"stockade-module1";

/// Bytes of a key to authenticate with: as many as SHA-256 takes at once.
pub(super) const KEY_BYTES: usize = 64;

/// Bytes of what HMAC-SHA256 comes to.
const MAC_BYTES: usize = 32;

/// Authenticates files. It has taken the key in already.
pub(super) struct Seal(Hmac<Sha256>);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(..)")
    }
}

impl Seal {
    pub(super) fn new(key: [u8; KEY_BYTES]) -> Self {
        Self(Mac::new(&key.into()))
    }

    /// The file of a module.
    pub(super) fn sealed(&self, key: &Key, about: &[u8], code: &[u8]) -> Vec<u8> {
        // Both are bounded far below (`MOST_CODE`); were they not, the file would be no record, and never loaded.
        let length = u32::try_from(about.len()).unwrap_or(u32::MAX).to_le_bytes();
        let rest = [key.0.as_slice(), &length, about, code].concat();
        let mac = self.over(&rest).finalize().into_bytes();
        [MARK.as_slice(), &mac, &rest].concat()
    }

    /// What is about the module of a file, and its code; nothing where this is no file that was sealed so.
    pub(super) fn opened<'f>(&self, key: &Key, file: &'f [u8]) -> Option<(&'f [u8], &'f [u8])> {
        let rest = file.strip_prefix(MARK)?;
        let (mac, rest) = rest.split_first_chunk::<MAC_BYTES>()?;
        self.over(rest).verify_slice(mac).ok()?;
        let rest = rest.strip_prefix(key.0.as_slice())?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        rest.split_at_checked(u32::from_le_bytes(*length) as usize)
    }

    fn over(&self, rest: &[u8]) -> Hmac<Sha256> {
        self.0.clone().chain_update(MARK).chain_update(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key([3; 32]);

    #[test]
    fn what_was_sealed_is_opened_with_the_same_key_only() {
        let seal = Seal::new([1; KEY_BYTES]);
        for (about, code) in [
            (&b"about"[..], &b"code"[..]),
            (b"", b"code"),
            (b"about", b""),
            (b"", b""),
        ] {
            let file = seal.sealed(&KEY, about, code);
            assert_eq!(seal.opened(&KEY, &file), Some((about, code)));
            assert_eq!(Seal::new([2; KEY_BYTES]).opened(&KEY, &file), None);
            assert_eq!(seal.opened(&Key([4; 32]), &file), None);
        }
    }

    #[test]
    fn every_bit_and_every_length_counts() {
        let seal = Seal::new([1; KEY_BYTES]);
        let file = seal.sealed(&KEY, b"about", b"code");
        for place in 0..file.len() {
            for bit in 0..8 {
                let mut wrong = file.clone();
                wrong[place] ^= 1 << bit;
                assert_eq!(seal.opened(&KEY, &wrong), None, "bit {bit} of byte {place}");
            }
            assert_eq!(seal.opened(&KEY, &file[..place]), None, "{place} bytes");
        }
        assert_eq!(seal.opened(&KEY, &[file.as_slice(), &[0]].concat()), None);
    }

    /// Made with Python's `hmac` and `hashlib`.
    #[test]
    fn files_are_authenticated_with_hmac_sha256() {
        let file = Seal::new([1; KEY_BYTES]).sealed(&KEY, b"about", b"code");
        let code: String = file[16..48].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(code, "ddeba8015fe1c1f71f655a31b5d1ee8ce19e39fd93d67ce068ccb21903e2f293");
    }
}
