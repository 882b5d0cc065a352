//! What the fence costs a module: its speed, an instance of it, a host call's question, a pointer, a
//! buffer.
//!
//! The kernels are real code, compiled once (`benches/kernels`), and every way must get the same answer out of them before any
//! is timed. Everything is timed in turns (`stockade_benches::pairs`), in several processes (`stockade_benches::processes`);
//! `targets.yaml` says what is promised.

use std::cell::RefCell;
use std::error::Error;
use std::hint::black_box;

use stockade_benches::pairs::{Pairs, mean_ratio, worst_ratio};
use stockade_benches::processes::in_several;
use stockade_benches::record::Record;
use stockade_benches::rivals::{Interpreted, Peer};
use stockade_policies::{Plan, PolicyStore, Principal, Source, SourceKind, Stock};
use stockade_runtime::measure::{Account, Asked, Bare, BareFile, Governed, Kept, Stopped, Way};
use stockade_runtime::{Layer, Layers, Module};

/// Kernels by name.
const KERNELS: &[(&str, &[u8])] = &[
    ("deflate", include_bytes!("../kernels/modules/deflate.wasm")),
    ("interpreter", include_bytes!("../kernels/modules/interpreter.wasm")),
    ("json", include_bytes!("../kernels/modules/json.wasm")),
    ("maps", include_bytes!("../kernels/modules/maps.wasm")),
    ("markdown", include_bytes!("../kernels/modules/markdown.wasm")),
    ("matmul", include_bytes!("../kernels/modules/matmul.wasm")),
    ("patterns", include_bytes!("../kernels/modules/patterns.wasm")),
    ("sha", include_bytes!("../kernels/modules/sha.wasm")),
    ("sort", include_bytes!("../kernels/modules/sort.wasm")),
];

/// The smallest of them: what is left of it without a turn is what an instance takes.
const SMALLEST: &[u8] = include_bytes!("../kernels/modules/interpreter.wasm");

/// Time for all rounds: the bound of fuel is out of reach in it, so nothing is counted.
const POLICIES: &str = r#"
@id("bench-elapse")
permit (principal in Profile::"bench", action == Action::"elapse", resource == Meter::"guest")
when { context.millis <= 600000 };
@id("bench-clock")
permit (principal in Profile::"bench", action == Action::"readClock", resource == HostFunction::"stockade#clock_now_ms");
"#;

/// With this, fuel is counted.
const COUNTED: &str = r#"
@id("bench-fuel")
forbid (principal, action == Action::"burnFuel", resource) unless { context.ops <= 1000000000000 };
"#;

fn main() -> Result<(), Box<dyn Error>> {
    in_several("wasm", measure)
}

fn measure(record: &mut Record) -> Result<(), Box<dyn Error>> {
    kernels(record)?;
    rivals(record)?;
    layers(record)?;
    sizes(record)?;
    loads(record)?;
    instances(record)?;
    questions(record)?;
    pointers(record)?;
    allocations(record)
}

/// A wrong answer may be a quick one.
fn same(answer: &[u8], expected: &[u8], what: &str) -> Result<(), String> {
    if answer == expected {
        Ok(())
    } else {
        Err(format!("{what}: somebody has another answer"))
    }
}

fn plan(more: &str) -> Result<Plan, Box<dyn Error>> {
    let source = |name: &str, text: String, kind| Source {
        name: name.to_owned(),
        text,
        kind,
    };
    let profile = r#"[{"uid": {"type": "Profile", "id": "bench"}, "attrs": {}, "parents": [{"type": "Profile", "id": "trusted"}]}]"#;
    let sources = [
        source("bench.json", profile.to_owned(), SourceKind::Entities),
        source("bench.cedar", format!("{POLICIES}{more}"), SourceKind::Policies),
    ];
    Ok(PolicyStore::load(&sources, Stock::With)?.plan(&Principal::caller("guest", "bench"))?)
}

/// How often a kernel does its work when it is called: once would be little more than warming the caches again.
const TURNS: u32 = 2;

/// The ways that a kernel runs, beside the bare one.
const WAYS: [&str; 3] = ["page", "epoch", "page and fuel"];

fn kernels(record: &mut Record) -> Result<(), Box<dyn Error>> {
    let (uncounted, counted) = (plan("")?, plan(COUNTED)?);
    let mut all = Vec::new();
    for &(name, binary) in KERNELS {
        let bare = Bare::new(binary)?;
        let page = Governed::new(binary, uncounted.clone(), Way::Page)?;
        let epoch = Governed::new(binary, uncounted.clone(), Way::Epoch)?;
        let fuel = Governed::new(binary, counted.clone(), Way::Page)?;
        let mut bare = bare.start()?;
        let mut governed = [page.start()?, epoch.start()?, fuel.start()?];
        // What is timed, since a trap is quick.
        let answer = bare.work(TURNS)?;
        for (way, instance) in WAYS.iter().zip(&mut governed) {
            same(&instance.work(TURNS)?, &answer, &format!("{name}, {way}"))?;
        }
        let [page, epoch, fuel] = governed.map(RefCell::new);
        let work =
            |instance: &RefCell<stockade_runtime::measure::GovernedInstance>| instance.borrow_mut().work(TURNS).is_ok();
        let timed = Pairs::of(name)
            .way("bare wasmtime", || bare.work(TURNS).is_ok())
            .way(WAYS[0], || work(&page))
            .way(WAYS[1], || work(&epoch))
            .way(WAYS[2], || work(&fuel))
            .timed(record.effort())?;
        record.timed(&timed);
        all.push(timed);
    }
    record.figure("page", mean_ratio(&all, WAYS[0]));
    record.figure("page-worst", worst_ratio(&all, WAYS[0]));
    record.figure("epoch", mean_ratio(&all, WAYS[1]));
    record.figure("fuel", mean_ratio(&all, WAYS[2]));
    Ok(())
}

/// Kernels that others are given too: an interpreter takes its time.
const SHORT: [usize; 3] = [2, 7, 8];

/// Calls a kernel as [`TURNS`] would have it, from a function that takes nothing; its code is what Extism hands back.
const MAIN: &str = r#"(module
  (import "kernel" "memory" (memory 1))
  (import "kernel" "input_ptr" (func $input (result i32)))
  (import "kernel" "output_ptr" (func $output (result i32)))
  (import "kernel" "run" (func $run (param i32) (result i32)))
  (func (export "twice") (result i32)
    (i32.store (call $input) (i32.const 2))
    (drop (call $run (i32.const 4)))
    (i32.and (i32.load (call $output)) (i32.const 0x7fffffff))))"#;

/// What a user would pick instead.
fn rivals(record: &mut Record) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let main = folder.path().join("main.wasm");
    std::fs::write(&main, wat::parse_str(MAIN)?)?;
    for &(name, binary) in SHORT.iter().filter_map(|kernel| KERNELS.get(*kernel)) {
        let (bare, governed) = (Bare::new(binary)?, Governed::new(binary, plan("")?, Way::Page)?);
        let epochs = Bare::stopped(binary, Stopped::ByEpochs)?;
        let fuel = Bare::stopped(binary, Stopped::ByFuel)?;
        let (mut bare, mut governed) = (bare.start()?, governed.start()?);
        let (mut epochs, mut fuel) = (epochs.start()?, fuel.start()?);
        let mut interpreted = Interpreted::new(binary)?;
        let answer = bare.work(TURNS)?;
        for other in [
            governed.work(TURNS)?,
            epochs.work(TURNS)?,
            fuel.work(TURNS)?,
            interpreted.work(TURNS)?,
        ] {
            same(&other, &answer, name)?;
        }
        let path = format!("{}/kernels/modules/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
        let extism = Peer::start(&["extism", &path, main.to_str().ok_or("a path that is no text")?]);
        let mut pairs = Pairs::of(format!("{name}, as others run it"))
            .way("bare wasmtime", || bare.work(TURNS).is_ok())
            .way("governed", || governed.work(TURNS).is_ok())
            .way("bare wasmtime, epochs", || epochs.work(TURNS).is_ok())
            .way("bare wasmtime, fuel", || fuel.work(TURNS).is_ok())
            .way("wasmi", || interpreted.work(TURNS).is_ok());
        if let Some(extism) = &extism {
            let seen = answer
                .first_chunk()
                .map(|first| u32::from_le_bytes(*first) & 0x7fff_ffff);
            let said = extism.answer()?;
            if seen.is_none_or(|seen| !said.ends_with(&format!(" {seen}"))) {
                return Err(format!("Extism answers `{said}` to {name}, not {seen:?}").into());
            }
            pairs = pairs.repeated("Extism, called from Python", |times| extism.repeat(times));
        }
        record.timed(&pairs.timed(record.effort())?);
    }
    Ok(())
}

/// What each layer that is there while a module runs costs alone.
const LAYERS: [(&str, Layer); 6] = [
    ("only memory", Layer::Memory),
    ("only stack", Layer::Stack),
    ("only deadline", Layer::Deadline),
    ("only bridge", Layer::Bridge),
    ("only quota", Layer::Quota),
    ("only capability", Layer::Capability),
];

fn layers(record: &mut Record) -> Result<(), Box<dyn Error>> {
    for &(name, binary) in SHORT.iter().filter_map(|kernel| KERNELS.get(*kernel)) {
        let plan = plan("")?;
        let answer = Bare::new(binary)?.start()?.work(TURNS)?;
        let started = |layers| {
            let mut instance = Governed::with_layers(binary, plan.clone(), Way::Page, layers)?.start()?;
            same(&instance.work(TURNS)?, &answer, name)?;
            Ok::<_, String>(instance)
        };
        let mut none = started(Layers::NONE)?;
        let mut all = started(Layers::ALL)?;
        let mut single = LAYERS
            .iter()
            .map(|(layer_name, layer)| Ok((*layer_name, started(Layers::NONE.with(*layer))?)))
            .collect::<Result<Vec<_>, String>>()?;
        let mut pairs = Pairs::of(format!("{name}, layer by layer")).way("no layer", || none.work(TURNS).is_ok());
        for (name, instance) in &mut single {
            pairs = pairs.way(name, || instance.work(TURNS).is_ok());
        }
        let timed = pairs
            .way("every layer", || all.work(TURNS).is_ok())
            .timed(record.effort())?;
        record.timed(&timed);
    }
    Ok(())
}

/// From bytes to code, as modules become larger.
fn sizes(record: &mut Record) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let mut kernels: Vec<_> = KERNELS.iter().collect();
    kernels.sort_by_key(|(_, binary)| binary.len());
    for (name, binary) in kernels
        .into_iter()
        .step_by(2)
        .take(if record.is_once() { 1 } else { 9 })
    {
        let kept = Kept::new(binary, plan("")?, &folder.path().join(name))?;
        let plan = plan("")?;
        // What is made ready is the module, by every way.
        let answer = Bare::new(binary)?.start()?.work(1)?;
        for governed in [Governed::new(binary, plan.clone(), Way::Page)?, kept.load()?.linked()?] {
            same(&governed.start()?.work(1)?, &answer, name)?;
        }
        let timed = Pairs::of("a module made ready")
            .sized(binary.len() as u64, "bytes")
            .way("bare wasmtime, compiled", || Bare::new(binary).is_ok())
            .way("validated, rewritten and compiled", || {
                Governed::new(binary, plan.clone(), Way::Page).is_ok()
            })
            .way("from the module cache", || kept.load().is_ok())
            .timed(record.effort())?;
        record.timed(&timed);
    }
    Ok(())
}

/// The one that is nearest to a megabyte.
const LARGEST: &[u8] = include_bytes!("../kernels/modules/patterns.wasm");

/// A module from the cache: its code alone, and with all that is done when a request brings it again.
fn loads(record: &mut Record) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let bare = BareFile::new(LARGEST, &folder.path().join("bare"))?;
    let kept = Kept::new(LARGEST, plan("")?, &folder.path().join("kept"))?;
    let answer = bare.load()?.start()?.work(1)?;
    let module = Module::from(LARGEST);
    for loaded in [kept.load()?, kept.come_again(&module)?, kept.load_from_disk()?] {
        same(&loaded.linked()?.start()?.work(1)?, &answer, "a module that was loaded")?;
    }
    if kept.come_again(&Module::from(SMALLEST)).is_ok() {
        return Err("a module is loaded for another's bytes".into());
    }
    let timed = Pairs::of("a module of 0.8 MB that was compiled before")
        .way("bare wasmtime, from a file", || bare.load().is_ok())
        .way("from the cache", || kept.load().is_ok())
        .way("from the cache, for a module that was kept too", || {
            kept.come_again(black_box(&module)).is_ok()
        })
        .way("from the cache, by the bytes of a request", || {
            kept.come_again(&Module::from(black_box(LARGEST))).is_ok()
        })
        .way("from the cache, the first time in a process", || {
            kept.load_from_disk().is_ok()
        })
        .timed(record.effort())?;
    record.timed(&timed);
    record.figure("load", timed.nanos("from the cache"));
    record.figure(
        "comes-again",
        timed.nanos("from the cache, for a module that was kept too"),
    );
    record.figure(
        "comes-as-bytes",
        timed.nanos("from the cache, by the bytes of a request"),
    );
    Ok(())
}

/// An instance, one call that does nothing, and the end of it.
fn instances(record: &mut Record) -> Result<(), Box<dyn Error>> {
    let (pooled, bare) = (Bare::pooled(SMALLEST)?, Bare::new(SMALLEST)?);
    let governed = Governed::new(SMALLEST, plan("")?, Way::Page)?;
    let answer = bare.start()?.work(0)?;
    for other in [pooled.start()?.work(0)?, governed.start()?.work(0)?] {
        same(&other, &answer, "an instance, a call and its end")?;
    }
    let timed = Pairs::of("an instance, a call and its end")
        .way("bare wasmtime, pooled", || {
            pooled.start().and_then(|mut instance| instance.work(0)).is_ok()
        })
        .way("bare wasmtime", || {
            bare.start().and_then(|mut instance| instance.work(0)).is_ok()
        })
        .way("governed", || {
            governed.start().and_then(|mut instance| instance.work(0)).is_ok()
        })
        .timed(record.effort())?;
    record.timed(&timed);
    record.figure("instance", timed.ratio("governed"));
    Ok(())
}

/// What the `capability` layer adds to each host call of a function but the first, which asks the plan.
fn questions(record: &mut Record) -> Result<(), Box<dyn Error>> {
    let asked = Asked::of(plan("")?);
    if !asked.is_allowed() {
        return Err("the clock is not granted".into());
    }
    let timed = Pairs::of("a host call's question")
        .way("an empty loop", || {
            black_box(&asked);
            true
        })
        .way("asked again", || black_box(&asked).is_allowed())
        .timed(record.effort())?;
    record.timed(&timed);
    record.figure("capability", timed.over("asked again"));
    Ok(())
}

/// What the `bridge` adds to a copy of 64 bytes.
fn pointers(record: &mut Record) -> Result<(), Box<dyn Error>> {
    let (bare, governed) = (Bare::new(SMALLEST)?, Governed::new(SMALLEST, plan("")?, Way::Page)?);
    let (mut bare, mut governed) = (bare.start()?, governed.start()?);
    same(
        &governed.read(1024, 64)?,
        &bare.read(1024, 64)?,
        "64 bytes out of a guest",
    )?;
    if governed.read(u32::MAX, 64).is_ok() {
        return Err("the bridge reads what is not there".into());
    }
    let timed = Pairs::of("64 bytes out of a guest")
        .way("a slice's own check", || {
            bare.read(black_box(1024), black_box(64)).is_ok()
        })
        .way("the bridge", || governed.read(black_box(1024), black_box(64)).is_ok())
        .timed(record.effort())?;
    record.timed(&timed);
    record.figure("pointer", timed.over("the bridge"));
    Ok(())
}

/// What keeping account adds to a buffer that the host has the guest allocate, while others are held.
fn allocations(record: &mut Record) -> Result<(), Box<dyn Error>> {
    const SIZE: u32 = 64;
    /// Behind all of them, as most allocators answer, and between two.
    const PLACES: [(&str, &str, u32); 2] = [
        ("allocation", "the last", 32 * SIZE),
        ("allocation-between", "between others", 17 * SIZE),
    ];
    let mut account = Account::of(plan("")?);
    for number in 0..16 {
        if !account.enter(number * 2 * SIZE, SIZE) {
            return Err("a buffer apart from the others is refused".into());
        }
    }
    if account.enter(0, SIZE) || account.strike(SIZE) {
        return Err("the account takes what overlaps, or what is not there".into());
    }
    let account = RefCell::new(account);
    let keep = |pointer: u32| {
        let mut account = account.borrow_mut();
        account.enter(black_box(pointer), SIZE) && account.strike(black_box(pointer))
    };
    let timed = Pairs::of("a buffer that is given and given back")
        .way("an empty loop", || {
            black_box(&account);
            true
        })
        .way(PLACES[0].1, || keep(PLACES[0].2))
        .way(PLACES[1].1, || keep(PLACES[1].2))
        .timed(record.effort())?;
    record.timed(&timed);
    for (target, way, _) in PLACES {
        record.figure(target, timed.over(way));
    }
    Ok(())
}
