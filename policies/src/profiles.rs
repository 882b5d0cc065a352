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

/// The SQL functions that the stock puts into classes.
pub(crate) fn stock_functions() -> impl Iterator<Item = String> {
    let text = STOCK.iter().find(|(_, name, _)| *name == "stock/functions.json");
    let rows: Vec<serde_json::Value> = text
        .and_then(|(_, _, text)| serde_json::from_str(text).ok())
        .unwrap_or_default();
    rows.into_iter()
        .filter_map(|row| Some(row.pointer("/uid/id")?.as_str()?.to_owned()))
}

/// What is proven of them.
#[cfg(feature = "workbench")]
pub(crate) fn stock_properties() -> crate::prove::PropertiesText {
    crate::prove::PropertiesText {
        name: "stock/stock.properties.yaml".to_owned(),
        text: include_str!("../profiles/stock.properties.yaml").to_owned(),
    }
}
