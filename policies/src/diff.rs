//! What changed in effect between two policy sets.
