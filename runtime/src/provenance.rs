//! Where a module comes from: who signed it, and whether it is one at all.
//!
//! It is known before there is a plan, because the plan depends on it: a module that a publisher signed is in that
//! publisher. A signature that is not right is never taken for none.

use stockade_policies::{Principal, PublisherKey};

use crate::layer::Layer;
use crate::outcome::{Class, Refusal};
use crate::request::{Guest, Request};

/// What stands before a module's digest in what its publisher signs. A key that signs other things too has said nothing
/// about a module by that.
const CONTEXT: &str = "stockade-module-sha256:";

/// The first bytes of native code on this system, and so of what wasmtime has compiled.
const NATIVE: &[u8] = b"\x7fELF";

/// The publisher who signed the guest, if anybody did, or why the guest must not run. `guest` is who it is without.
pub(crate) fn signer(request: &Request, guest: &Principal, keys: &[PublisherKey]) -> Result<Option<String>, Refusal> {
    if matches!(request.guest, Guest::Wasm(_)) && request.guest.bytes().starts_with(NATIVE) {
        let detail = "it is compiled already: native code from a stranger is never loaded";
        return Err(Refusal::by(Layer::Provenance, Class::ModuleMalformed, detail));
    }
    let Some(signature) = &request.signature else {
        return Ok(None);
    };
    let Some(digest) = &guest.sha256 else {
        return Err(denial("only modules are signed, and this is SQL"));
    };
    let message = format!("{CONTEXT}{digest}");
    verified_by(keys, message.as_bytes(), signature)
        .map_err(|wrong| denial(&wrong))?
        .map(|publisher| Some(publisher.to_owned()))
        .ok_or_else(|| denial("the signature is right by no publisher's key"))
}

fn denial(detail: &str) -> Refusal {
    Refusal::by(Layer::Provenance, Class::DeniedProvenance, detail)
}

/// The one whose key made the signature; nothing where nobody's did.
#[cfg(feature = "wasm")]
fn verified_by<'k>(keys: &'k [PublisherKey], message: &[u8], signature: &[u8]) -> Result<Option<&'k str>, String> {
    use ed25519_dalek::{Signature, VerifyingKey};

    let signature = Signature::from_slice(signature)
        .map_err(|_| format!("the signature has {} bytes, and one of Ed25519 has 64", signature.len()))?;
    // `verify_strict` also refuses keys and signatures that are right for several messages.
    let is_right = |key: &VerifyingKey| key.verify_strict(message, &signature).is_ok();
    Ok(keys
        .iter()
        .find(|known| VerifyingKey::from_bytes(&known.ed25519).is_ok_and(|key| is_right(&key)))
        .map(|known| known.publisher.as_str()))
}

#[cfg(not(feature = "wasm"))]
fn verified_by<'k>(_: &'k [PublisherKey], _: &[u8], _: &[u8]) -> Result<Option<&'k str>, String> {
    Err("this build verifies no signatures".to_owned())
}
