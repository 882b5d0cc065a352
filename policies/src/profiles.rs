//! The profiles that come with the product.

use crate::store::{Source, SourceKind};

macro_rules! stock {
    ($($kind:ident $file:literal)*) => {
        /// Every stock source: kind, name and text.
        const STOCK: &[(SourceKind, &str, &str)] = &[
            $((SourceKind::$kind, concat!("stock/", $file), include_str!(concat!("../profiles/", $file))),)*
        ];
    };
}

stock! {
    Entities "profiles.json"
    Entities "functions.json"
    Policies "capabilities.cedar"
    Policies "sqlite-recommended.cedar"
    Policies "untrusted.cedar"
    Policies "database-only.cedar"
    Policies "standard.cedar"
    Policies "trusted.cedar"
    Policies "walkin.cedar"
    Policies "pure.cedar"
}

/// The stock profiles, as if somebody had passed them.
pub(crate) fn stock_sources() -> Vec<Source> {
    STOCK
        .iter()
        .map(|(kind, name, text)| Source {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
            kind: *kind,
        })
        .collect()
}
