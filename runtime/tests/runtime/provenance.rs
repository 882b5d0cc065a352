//! Whose word there is for a module, and that a wrong one is never taken for none.

use std::sync::OnceLock;

use ed25519_dalek::{Signer, SigningKey};
use libtest_mimic::Trial;
use sha2::{Digest, Sha256};
use stockade_policies::{PolicyStore, Source, SourceKind, Stock};
use stockade_runtime::worker::Patience;
use stockade_runtime::{Ablated, Class, Event, Layer, Layers, Outcome, Request, Runtime};

use crate::support::{assert_completed, assert_stopped, in_workers, named, run};

pub fn trials() -> Vec<Trial> {
    named![
        a_signed_module_may_what_its_publisher_may,
        every_byte_of_a_signature_counts,
        a_signature_has_sixty_four_bytes,
        a_signature_is_of_one_module,
        a_signature_by_an_unknown_key_is_refused,
        a_signature_of_the_bytes_themselves_is_none_of_the_module,
        a_signature_that_is_right_for_every_message_is_refused,
        a_key_that_is_no_point_signs_nothing,
        a_script_is_not_signed,
        a_refused_signature_is_refused_before_anything_starts,
        native_code_is_refused_twice,
    ]
}

/// Reads the clock, which only what `acme` signed may.
const CLOCK: &[u8] = b"(module (import \"stockade\" \"clock_now_ms\" (func $now (result i64)))
    (func (export \"run\") (drop (call $now))))";

const ONLY_ACME: &str = "@id(\"clock-by-acme\")
    forbid (principal in Profile::\"standard\", action == Action::\"readClock\", resource)
    unless { principal in Publisher::\"acme\" };";

fn acme() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Policies under which a key is `acme`'s.
fn with_key(key: &[u8]) -> PolicyStore {
    let entities = format!(
        r#"[{{"uid": {{"type": "Publisher", "id": "acme"}}, "attrs": {{"ed25519": "{}"}}, "parents": []}},
            {{"uid": {{"type": "Publisher", "id": "keyless"}}, "attrs": {{}}, "parents": []}}]"#,
        hexadecimal(key)
    );
    let source = |name: &str, text: &str, kind| Source {
        name: name.to_owned(),
        text: text.to_owned(),
        kind,
    };
    let sources = [
        source("a.json", &entities, SourceKind::Entities),
        source("a.cedar", ONLY_ACME, SourceKind::Policies),
    ];
    PolicyStore::load(&sources, Stock::With).unwrap()
}

fn policies() -> PolicyStore {
    with_key(acme().verifying_key().as_bytes())
}

fn signature(key: &SigningKey, module: &[u8]) -> Vec<u8> {
    let message = format!("stockade-module-sha256:{}", hexadecimal(&Sha256::digest(module)));
    key.sign(message.as_bytes()).to_bytes().to_vec()
}

fn unsigned() -> Request {
    Request::wasm("standard", CLOCK)
}

fn in_process(request: &Request) -> Outcome {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    run(RUNTIME.get_or_init(|| Runtime::in_process(policies())), request)
}

fn assert_refused(request: &Request) {
    assert_stopped(&in_process(request), Class::DeniedProvenance, Layer::Provenance);
}

fn a_signed_module_may_what_its_publisher_may() {
    for runtime in [in_workers(policies()), Runtime::in_process(policies())] {
        assert_stopped(&run(&runtime, &unsigned()), Class::DeniedImport, Layer::Imports);
        let signed = unsigned().signed(signature(&acme(), CLOCK));
        assert_completed(&run(&runtime, &signed));
        let plan = runtime.plan(&signed).unwrap();
        assert_eq!(plan.principal().publisher.as_deref(), Some("acme"));
    }
}

fn every_byte_of_a_signature_counts() {
    let right = signature(&acme(), CLOCK);
    for place in 0..right.len() {
        let mut wrong = right.clone();
        wrong[place] ^= 1;
        assert_refused(&unsigned().signed(wrong));
    }
}

fn a_signature_has_sixty_four_bytes() {
    let right = signature(&acme(), CLOCK);
    for wrong in [Vec::new(), right[..63].to_vec(), [right.as_slice(), &[0]].concat()] {
        assert_refused(&unsigned().signed(wrong));
    }
}

fn a_signature_is_of_one_module() {
    let other = [CLOCK, b" "].concat();
    assert_refused(&Request::wasm("standard", other.clone()).signed(signature(&acme(), CLOCK)));
    assert_completed(&in_process(
        &Request::wasm("standard", other.clone()).signed(signature(&acme(), &other)),
    ));
}

fn a_signature_by_an_unknown_key_is_refused() {
    let stranger = SigningKey::from_bytes(&[8; 32]);
    assert_refused(&unsigned().signed(signature(&stranger, CLOCK)));
    // Also where it makes no difference to the plan: a wrong signature is not the same as none.
    let plain = Request::wasm("standard", "(module)");
    assert_completed(&in_process(&plain));
    assert_refused(&plain.signed(signature(&stranger, b"(module)")));
}

fn a_signature_of_the_bytes_themselves_is_none_of_the_module() {
    let digest = Sha256::digest(CLOCK);
    for message in [CLOCK, digest.as_slice(), hexadecimal(&digest).as_bytes()] {
        assert_refused(&unsigned().signed(acme().sign(message).to_bytes()));
    }
}

/// By a key of small order, one signature is right for many messages or all: the neutral element, and nothing times the base.
fn a_signature_that_is_right_for_every_message_is_refused() {
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let signature = [neutral, [0; 32]].concat();
    let outcome = run(&Runtime::in_process(with_key(&neutral)), &unsigned().signed(signature));
    assert_stopped(&outcome, Class::DeniedProvenance, Layer::Provenance);
}

fn a_key_that_is_no_point_signs_nothing() {
    // No x of the curve has y = 2.
    let mut no_point = [0; 32];
    no_point[0] = 2;
    let request = unsigned().signed(signature(&acme(), CLOCK));
    let outcome = run(&Runtime::in_process(with_key(&no_point)), &request);
    assert_stopped(&outcome, Class::DeniedProvenance, Layer::Provenance);
}

fn a_script_is_not_signed() {
    assert_completed(&in_process(&Request::sql("standard", "select 1")));
    assert_refused(&Request::sql("standard", "select 1").signed(signature(&acme(), b"select 1")));
}

fn a_refused_signature_is_refused_before_anything_starts() {
    for runtime in [in_workers(policies()), Runtime::in_process(policies())] {
        let outcome = run(&runtime, &unsigned().signed(vec![0; 64]));
        assert_stopped(&outcome, Class::DeniedProvenance, Layer::Provenance);
        let events = outcome.trail.events();
        assert!(
            matches!(events, [Event::Admitted { .. }, Event::Refused { .. }]),
            "{events:?}"
        );
    }
}

/// What wasmtime itself has compiled for this very machine.
fn native_code_is_refused_twice() {
    let empty = b"\0asm\x01\0\0\0";
    let native = wasmtime::Engine::default().precompile_module(empty).unwrap();
    assert!(wasmtime::Engine::detect_precompiled(&native).is_some());
    let request = Request::wasm("standard", native);
    let runtime = in_workers(policies());
    assert_stopped(&run(&runtime, &request), Class::ModuleMalformed, Layer::Provenance);
    // Whoever looks at it next takes it for no module either.
    let others = Layers::ALL.without(Layer::Provenance);
    let patience = Patience {
        prepare: std::time::Duration::from_secs(20),
        run: None,
        answer: std::time::Duration::ZERO,
        reply_bytes: usize::MAX,
        rss_bytes: None,
    };
    match runtime.run_ablated(&request, others, &patience).unwrap() {
        Ablated::Outcome(outcome) => assert_stopped(&outcome, Class::ModuleMalformed, Layer::Validate),
        Ablated::Ended(ended) => panic!("{ended:?}"),
    }
}
