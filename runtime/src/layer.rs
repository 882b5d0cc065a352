//! The independent defences, by name, and sets of them.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! layers {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// One independent defence. Each can be switched off alone, and each is named in every outcome it causes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Layer { $($(#[$doc])* $variant,)* }

        impl Layer {
            /// Every layer, in the order in which a guest meets them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word used in cases, reports and documentation.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

layers! {
    /// Modules with a signature that is not right, and native code. Who signed a module is part of who it is, so this comes
    /// before there is a plan.
    Provenance = "provenance",
    /// Bytes that can be refused before anything parses them: oversized, NUL in SQL, not UTF-8. And bounds below what
    /// can be enforced.
    Screen = "screen",
    /// What SQLite was compiled without, and the defaults that it was compiled with. Switched off for good only by compiling
    /// it again.
    Build = "build",
    /// SQL actions, tables, columns, functions and pragmas that the plan does not grant.
    Authorizer = "authorizer",
    /// `sqlite3_limit`, the `SQLITE_DBCONFIG` switches and how the database is opened.
    Limits = "limits",
    /// SQLite's process-wide hard heap limit; in force only in a worker, which has one tenant at a time.
    Heap = "heap",
    /// Sizes that add up: pages, rows, result bytes, log bytes, host calls, input and output.
    Quota = "quota",
    /// Modules that do not parse or validate, that need more of WebAssembly than guests have, or that cost a compiler more
    /// than the plan allows.
    Validate = "validate",
    /// Imports that the plan does not grant are never linked.
    Imports = "imports",
    /// Every host call asks the plan again when it is made.
    Capability = "capability",
    /// Pointers, lengths and text that a guest hands to the host.
    Bridge = "bridge",
    /// Linear memory, tables and instances of a WebAssembly store.
    Memory = "memory",
    /// The WebAssembly stack, always smaller than the thread's own.
    Stack = "stack",
    /// Operators counted: the same guest with the same input always stops at the same one.
    Fuel = "fuel",
    /// Wall-clock time, watched from inside the process: cheap, polite, and blind inside one opcode.
    Deadline = "deadline",
    /// Wall-clock time, memory and crashes, watched from outside: the supervisor kills the process.
    Worker = "worker",
    /// The kernel refuses the worker every file, TCP connection and program; what the plan grants is opened for it by another
    /// process.
    Landlock = "landlock",
    /// The kernel refuses the worker every system call that no guest needs, and kills it for the worst.
    Seccomp = "seccomp",
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of layers. Anything but [`Layers::ALL`] is for proving what a layer is worth, never for production.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Layers(u32);

impl Layers {
    /// The whole fence.
    pub const ALL: Self = Self((1 << Layer::ALL.len()) - 1);
    /// No fence at all: the control.
    pub const NONE: Self = Self(0);

    /// Whether `layer` is in force.
    #[must_use]
    pub const fn contains(self, layer: Layer) -> bool {
        self.0 & (1 << layer as u32) != 0
    }

    /// This set and `layer`.
    #[must_use]
    pub const fn with(self, layer: Layer) -> Self {
        Self(self.0 | (1 << layer as u32))
    }

    /// This set less `layer`.
    #[must_use]
    pub const fn without(self, layer: Layer) -> Self {
        Self(self.0 & !(1 << layer as u32))
    }

    /// The layers of this set that are not in `others`.
    #[must_use]
    pub const fn minus(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// The layers of the set, in order.
    pub fn iter(self) -> impl Iterator<Item = Layer> {
        Layer::ALL.iter().copied().filter(move |layer| self.contains(*layer))
    }
}

impl Default for Layers {
    fn default() -> Self {
        Self::ALL
    }
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<Layer> for Layers {
    fn from_iter<I: IntoIterator<Item = Layer>>(layers: I) -> Self {
        layers.into_iter().fold(Self::NONE, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_can_be_taken_out_and_put_back_alone() {
        for &layer in Layer::ALL {
            let less = Layers::ALL.without(layer);
            assert!(!less.contains(layer));
            assert_eq!(less.iter().count(), Layer::ALL.len() - 1);
            assert_eq!(less.with(layer), Layers::ALL);
            assert_eq!(Layers::from_iter([layer]).iter().collect::<Vec<_>>(), [layer]);
        }
    }

    #[test]
    fn serde_and_display_use_the_same_word() {
        for &layer in Layer::ALL {
            assert_eq!(
                serde_json::to_value(layer).unwrap(),
                serde_json::Value::from(layer.to_string())
            );
        }
    }
}
