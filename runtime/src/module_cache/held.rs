//! The modules that were used last, in memory: who asks for one of them reads no file, and authenticates none.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Key;
use crate::code::Artefact;

/// The most bytes of code that are held.
const MOST_BYTES: usize = 64 << 20;

/// The most modules that are held: each takes a descriptor.
const MOST_MODULES: usize = 128;

/// How long it may take until the file of a module that is in use says so.
const TOUCH_EVERY: Duration = Duration::from_mins(1);

/// Those that were used last, the very last at the end.
#[derive(Debug, Default)]
pub(super) struct Held {
    modules: VecDeque<Module>,
    bytes: usize,
}

#[derive(Debug)]
struct Module {
    key: Key,
    artefact: Artefact,
    bytes: usize,
    touched: Instant,
}

impl Held {
    /// The module, and whether its file is due to say that it is used.
    pub(super) fn find(&mut self, key: &Key) -> (Option<Artefact>, bool) {
        let Some(mut module) = self.take(key) else {
            return (None, false);
        };
        let is_due = module.touched.elapsed() >= TOUCH_EVERY;
        if is_due {
            module.touched = Instant::now();
        }
        let artefact = module.artefact.clone();
        self.put(module);
        (Some(artefact), is_due)
    }

    pub(super) fn hold(&mut self, key: &Key, artefact: Artefact, bytes: usize) {
        self.forget(key);
        self.put(Module {
            key: *key,
            artefact,
            bytes,
            touched: Instant::now(),
        });
        while self.bytes > MOST_BYTES || self.modules.len() > MOST_MODULES {
            let Some(oldest) = self.modules.pop_front() else {
                return;
            };
            self.bytes -= oldest.bytes;
        }
    }

    pub(super) fn forget(&mut self, key: &Key) {
        self.take(key);
    }

    fn take(&mut self, key: &Key) -> Option<Module> {
        let at = self.modules.iter().rposition(|module| module.key == *key)?;
        let module = self.modules.remove(at)?;
        self.bytes -= module.bytes;
        Some(module)
    }

    fn put(&mut self, module: Module) {
        self.bytes += module.bytes;
        self.modules.push_back(module);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::code::Sealed;

    fn artefact() -> Artefact {
        Artefact {
            about: Arc::new([]),
            code: Arc::new(Sealed::of(b"").unwrap()),
        }
    }

    fn is_held(held: &mut Held, number: u8) -> bool {
        held.find(&Key([number; 32])).0.is_some()
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut held = Held::default();
        for number in 0..2 {
            held.hold(&Key([number; 32]), artefact(), MOST_BYTES / 2);
        }
        assert!(is_held(&mut held, 0));
        held.hold(&Key([2; 32]), artefact(), 1);
        assert!(is_held(&mut held, 0) && !is_held(&mut held, 1) && is_held(&mut held, 2));
        assert_eq!(held.bytes, MOST_BYTES / 2 + 1);
    }

    #[test]
    fn what_is_held_again_takes_no_more_room_and_what_is_too_large_none() {
        let mut held = Held::default();
        for _ in 0..3 {
            held.hold(&Key([0; 32]), artefact(), MOST_BYTES);
        }
        assert!(is_held(&mut held, 0));
        held.hold(&Key([1; 32]), artefact(), MOST_BYTES + 1);
        assert!(!is_held(&mut held, 1));
        assert_eq!((held.bytes, held.modules.len()), (0, 0));
    }

    #[test]
    fn descriptors_are_bounded_too() {
        let mut held = Held::default();
        for number in 0..=MOST_MODULES {
            held.hold(&Key([u8::try_from(number).unwrap(); 32]), artefact(), 0);
        }
        assert_eq!(held.modules.len(), MOST_MODULES);
        assert!(!is_held(&mut held, 0) && is_held(&mut held, 1));
        held.forget(&Key([1; 32]));
        assert!(!is_held(&mut held, 1));
    }
}
